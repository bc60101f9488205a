"""A chat template renders every message in time, or is refused."""

import threading
import time
from typing import Any

import pytest
from tiny_language_models import CHAT_TEMPLATE, make_tokenizer

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models import chat_rendering
from gradsift.components.shared.models.chat_rendering import chat_texts
from gradsift.components.shared.models.prompt_format import PromptFormat


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer(chat=True)


def test_a_conversation_is_rendered_up_to_the_answer_and_with_it(tokenizer: Any) -> None:
    beginning, whole = chat_texts(tokenizer, "one ?", "two")
    assert beginning == "<|start|>user\none ?<|turn|>\n<|start|>assistant\n"
    assert whole == f"{beginning}two<|turn|>"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (
            "{{ raise_exception('no') }}",
            "The chat template of the base model cannot be used: TemplateError, no.",
        ),
        ("{{ 1 / 0 }}", "The chat template of the base model cannot be used: ZeroDivisionError"),
        ("{% for", "The chat template of the base model cannot be used: TemplateSyntaxError"),
        ("{{ messages.append(1) }}", "The chat template of the base model cannot be used: SecurityError"),
        ("hello", "The chat template leaves out a message of the conversation: expected prompt_form 'plain'"),
        ("{{ messages[0]['content'] }}", "The chat template leaves out a message of the conversation"),
        ("{{ messages | length }}", "The chat template writes a conversation otherwise than its beginning"),
        (5, "The chat template of the base model cannot be used: "),
    ],
)
def test_a_template_that_does_not_render_both_texts_is_refused(
    tokenizer: Any, template: Any, fault: str
) -> None:
    tokenizer.chat_template = template
    with pytest.raises(InputError) as caught:
        PromptFormat.of(tokenizer, False, "auto", 64, "m")
    assert str(caught.value).startswith(fault)
    assert "\n" not in str(caught.value)


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_a_template_that_loops_is_stopped(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_rendering, "RENDER_TIMEOUT", 0.3)
    tokenizer.chat_template = LOOP + CHAT_TEMPLATE
    with pytest.raises(InputError, match=r"it takes longer than 0\.3 seconds, expected prompt_form 'plain'"):
        chat_texts(tokenizer, "one ?", "two")
    time.sleep(0.4)  # nothing is left that would interrupt what follows


def test_rendering_outside_the_main_thread_has_no_limit_and_the_same_result(tokenizer: Any) -> None:
    found: list[tuple[str, str]] = []
    thread = threading.Thread(target=lambda: found.append(chat_texts(tokenizer, "one ?", "two")))
    thread.start()
    thread.join()
    assert found == [chat_texts(tokenizer, "one ?", "two")]
