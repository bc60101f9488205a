"""A chat template renders every message in time, or is refused."""

import threading
import time
from itertools import groupby
from typing import Any

import pytest
from tiny_language_models import CHAT_TEMPLATE, MARKED_TEMPLATE, THINKING_TEMPLATE, make_tokenizer

from gradsift.components.shared.data.prepared_data import Message
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models import chat_rendering
from gradsift.components.shared.models.chat_rendering import answer_frame, chat_texts, earlier_answers
from gradsift.components.shared.models.prompt_format import PromptFormat


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer(chat=True)


def texts(tokenizer: Any, prompt: str, answer: str) -> tuple[str, str]:
    return chat_texts(tokenizer, answer_frame(tokenizer), [{"role": "user", "content": prompt}], answer)


def test_a_conversation_is_rendered_up_to_the_answer_and_with_it(tokenizer: Any) -> None:
    beginning, whole = texts(tokenizer, "one ?", "two")
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
        (
            "hello",
            "The chat template leaves out or changes a message of the conversation: expected prompt_form",
        ),
        ("{{ messages[0]['content'] }}", "The chat template leaves out or changes a message"),
        (CHAT_TEMPLATE.replace("m['content']", "m['content'][0]['text']"), "The chat template leaves out or"),
        (CHAT_TEMPLATE.replace("m['content']", "m['content'] | upper"), "The chat template leaves out or"),
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


@pytest.mark.parametrize(
    ("template", "frame"),
    [
        (CHAT_TEMPLATE, ("", "<|turn|>\n")),
        (THINKING_TEMPLATE, ("<think>\n\n</think>\n\n", "<|turn|>\n")),
        (CHAT_TEMPLATE.replace("<|turn|>\n", ""), ("", "")),
        (CHAT_TEMPLATE.replace("<|turn|>", " ###"), ("", " ###\n")),
    ],
)
def test_what_a_template_writes_around_an_answer_is_learned(
    tokenizer: Any, template: str, frame: tuple[str, str]
) -> None:
    tokenizer.chat_template = template
    assert answer_frame(tokenizer) == frame
    for answer in ("two", "First of\nall", " two\n", ""):
        beginning, whole = texts(tokenizer, "one ?", answer)
        written = whole.removeprefix(beginning)
        assert written.startswith(frame[0])
        assert written.endswith(frame[1].rstrip("\n"))
        assert answer.strip() in written


def test_a_template_that_swallows_a_part_of_an_answer_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = THINKING_TEMPLATE
    with pytest.raises(InputError, match="leaves out or changes a message of the conversation: expected pro"):
        texts(tokenizer, "one ?", "I think</think>two")


@pytest.mark.parametrize(
    ("form", "written"),
    [("%d %b %Y", "26 Jul 2024"), ("%Y-%m-%dT%H:%M", "2024-07-26T00:00"), ("%B %-d", "July 26")],
)
def test_a_date_is_the_same_in_all_time_zones(
    tokenizer: Any, form: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = f"{{% set date = strftime_now('{form}') if strftime_now is defined else '' %}}"
    tokenizer.chat_template = date + "Today is {{ date }}.\n" + CHAT_TEMPLATE
    rendered = set()
    for zone in ("Etc/GMT+12", "Etc/GMT-14"):  # 26 hours apart
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        rendered.add(texts(tokenizer, "one ?", "two"))
    monkeypatch.undo()
    time.tzset()
    [(beginning, _)] = rendered
    assert beginning.startswith(f"Today is {written}.")
    assert PromptFormat.of(tokenizer, False, "auto", 64, "m").decided_by["date"] == "2024-07-26"


ASKED: list[Message] = [
    {"role": "user", "content": "one ?"},
    {"role": "assistant", "content": "user "},
    {"role": "user", "content": "two ?"},
    {"role": "assistant", "content": "two ?"},
    {"role": "user", "content": "three ?"},
]


def written_earlier(tokenizer: Any, asked: list[Message] = ASKED) -> list[str]:
    """The answers that `earlier_answers` finds, in words of the rendering."""
    written = earlier_answers(tokenizer, answer_frame(tokenizer), asked)
    beginning, _ = chat_texts(tokenizer, answer_frame(tokenizer), asked, "four")
    ids = tokenizer(beginning, add_special_tokens=False)["input_ids"]
    runs = groupby(zip(ids, written, strict=True), key=lambda token: token[1])
    return [tokenizer.decode([token for token, _ in run]) for answer, run in runs if answer]


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (CHAT_TEMPLATE, ["user <|turn|>", "two ?<|turn|>"]),
        (MARKED_TEMPLATE, ["user <|turn|>", "two ?<|turn|>"]),
        (
            MARKED_TEMPLATE.replace("<|turn|>{% endgen", "{% endgen").replace(
                "endgeneration %}", "endgeneration %}<|turn|>"
            ),
            ["user ", "two ?"],
        ),
        (CHAT_TEMPLATE.replace("m['content']", "m['content'] | trim"), ["user<|turn|>", "two ?<|turn|>"]),
        (CHAT_TEMPLATE.replace("<|turn|>", " ###"), ["user  ###", "two ? ###"]),
        (
            CHAT_TEMPLATE.replace(
                "<|turn|>\n", "<|turn|>\n{% if loop.last and m['role'] == 'assistant' %}</s>{% endif %}"
            ),
            ["user <|turn|>", "two ?<|turn|>"],
        ),
        (
            THINKING_TEMPLATE.replace("== 'assistant'", "== 'assistant' and loop.last"),
            ["user <|turn|>", "two ?<|turn|>"],
        ),
        (
            THINKING_TEMPLATE,
            [f"<think>\n\n</think>\n\n{answer}<|turn|>" for answer in ("user", "two ?")],
        ),
    ],
)
def test_earlier_answers_are_found_with_what_the_model_must_write_around_them(
    tokenizer: Any, template: str, written: list[str]
) -> None:
    tokenizer.chat_template = template
    assert written_earlier(tokenizer) == written


def test_marked_answers_are_those_of_transformers(tokenizer: Any) -> None:
    tokenizer.chat_template = MARKED_TEMPLATE
    found = earlier_answers(tokenizer, answer_frame(tokenizer), ASKED)
    options = {"return_dict": True, "return_assistant_tokens_mask": True, "add_generation_prompt": True}
    assert found == list(map(bool, tokenizer.apply_chat_template(ASKED, **options)["assistant_masks"]))
    tokenizer.chat_template = CHAT_TEMPLATE
    assert found == earlier_answers(tokenizer, answer_frame(tokenizer), ASKED)


@pytest.mark.parametrize(
    "template",
    [
        CHAT_TEMPLATE.replace("{% for", "{% if messages | length > 2 %}long {% endif %}{% for"),
        CHAT_TEMPLATE.replace(
            "m['content']", "('Ha ' if loop.index == 2 and not loop.last else '') + m['content']"
        ),
        CHAT_TEMPLATE + "{% generation %}{% endgeneration %}",
    ],
)
def test_a_template_that_writes_earlier_answers_otherwise_is_refused(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(InputError) as caught:
        written_earlier(tokenizer)
    assert str(caught.value) == (
        "The chat template does not write an earlier answer of the conversation as the assistant's last: expected "
        "prepare_answer_turns 'last' for this base model."
    )


def test_a_template_that_drops_an_earlier_message_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = CHAT_TEMPLATE.replace(
        "{% for m in messages %}", "{% for m in messages if m['content'] != 'two ?' %}"
    )
    with pytest.raises(InputError, match="leaves out or changes a message of the conversation"):
        chat_texts(tokenizer, answer_frame(tokenizer), ASKED, "four")


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_a_template_that_loops_is_stopped(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_rendering, "RENDER_TIMEOUT", 0.3)
    tokenizer.chat_template = LOOP + CHAT_TEMPLATE
    with pytest.raises(InputError, match=r"it takes longer than 0\.3 seconds, expected prompt_form 'plain'"):
        texts(tokenizer, "one ?", "two")
    time.sleep(0.4)  # nothing is left that would interrupt what follows


def test_rendering_outside_the_main_thread_has_no_limit_and_the_same_result(tokenizer: Any) -> None:
    found: list[tuple[str, str]] = []
    thread = threading.Thread(target=lambda: found.append(texts(tokenizer, "one ?", "two")))
    thread.start()
    thread.join()
    assert found == [texts(tokenizer, "one ?", "two")]
