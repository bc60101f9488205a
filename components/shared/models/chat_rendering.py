"""Renders a conversation by a tokenizer's chat template, which is a program that others wrote."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from string import ascii_letters
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.library_errors import library_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RENDER_TIMEOUT = 5.0
"""Seconds for one conversation."""
PROMPT_DATE = date(2024, 7, 26)
"""The day that a template is given for today, so that the same rows have the same prompts on every day and in
every time zone: the one that Llama 3's template falls back to."""
CALENDAR = {f"%{code}": PROMPT_DATE.strftime(f"%{code}") for code in ("-d", "-m", *ascii_letters)}
PINNED_CLOCK = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f".replace('{code}', '{text}')" for code, text in CALENDAR.items() if code != text)
    + " }}{%- endmacro -%}"
)
"""A macro that stands in for transformers' function of that name, which no argument can replace."""
FAILED = "The chat template of the base model cannot be used"
HINT = "expected prompt_form 'plain' for this base model"
CHANGED = f"The chat template leaves out or changes a message of the conversation: {HINT}."
EXAMPLE_ANSWERS = ("First answer", "another reply")


class AnswerFrame(NamedTuple):
    """What a template writes before and after an assistant's answer, beside the generation prompt."""

    prefix: str
    suffix: str


def answer_frame(tokenizer: "PreTrainedTokenizerBase") -> AnswerFrame:
    """Return what is common to the renderings of two answers.

    Qwen3's template, for one, writes an empty block of thoughts before an answer, which its generation prompt
    lacks.

    Raises:
        InputError: see `chat_texts`.
    """
    written = [
        whole.removeprefix(beginning)
        for beginning, whole in (_rendered(tokenizer, "a question", answer) for answer in EXAMPLE_ANSWERS)
    ]
    prefix, _, suffix = written[0].partition(EXAMPLE_ANSWERS[0])
    if written != [f"{prefix}{answer}{suffix}" for answer in EXAMPLE_ANSWERS]:
        raise InputError(CHANGED)
    return AnswerFrame(prefix, suffix)


def chat_texts(
    tokenizer: "PreTrainedTokenizerBase", frame: AnswerFrame, prompt: str, answer: str
) -> tuple[str, str]:
    """Return a conversation up to the assistant's answer, and with it.

    Args:
        tokenizer: a tokenizer with a chat template.
        frame: what the template writes around an answer.
        prompt: the user's message.
        answer: the assistant's.

    Raises:
        InputError: the template fails, takes longer than `RENDER_TIMEOUT`, leaves out or changes a message other
            than at its ends, or writes the conversation otherwise than its beginning and the answer.
    """
    beginning, whole = _rendered(tokenizer, prompt, answer)
    written = whole.removeprefix(beginning)
    content = written.removeprefix(frame.prefix).removesuffix(frame.suffix)
    framed = written == frame.prefix + content + frame.suffix
    if prompt.strip() not in beginning or not framed or content.strip() != answer.strip():
        raise InputError(CHANGED)
    return beginning, whole.removesuffix(frame.suffix) + frame.suffix.rstrip("\n")


def _rendered(tokenizer: "PreTrainedTokenizerBase", prompt: str, answer: str) -> tuple[str, str]:
    """Return the rendering up to the assistant's answer, and with it."""
    asked = [{"role": "user", "content": prompt}]
    answered = [*asked, {"role": "assistant", "content": answer}]
    with library_errors(FAILED), _time_limit():
        template = PINNED_CLOCK + tokenizer.get_chat_template()
        options: Any = {"tokenize": False, "chat_template": template}
        beginning = str(tokenizer.apply_chat_template(asked, add_generation_prompt=True, **options))
        whole = str(tokenizer.apply_chat_template(answered, **options))
    if not whole.startswith(beginning):
        raise InputError(
            f"The chat template writes a conversation otherwise than its beginning and the answer: {HINT}."
        )
    return beginning, whole


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise an InputError in the block once it takes too long; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, __: FrameType | None) -> NoReturn:
        raise InputError(f"{FAILED}: it takes longer than {RENDER_TIMEOUT:g} seconds, {HINT}.")

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, RENDER_TIMEOUT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, left - (time.monotonic() - started)), interval)
