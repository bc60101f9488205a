"""Renders a conversation by a tokenizer's chat template, which is a program that others wrote."""

import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from string import ascii_letters
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from gradsift.components.shared.data.prepared_data import Message
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
EARLIER = (
    "The chat template does not write an earlier answer of the conversation as the assistant's last: expected "
    "prepare_answer_turns 'last' for this base model."
)
EXAMPLE_QUESTION: list[Message] = [{"role": "user", "content": "a question"}]
EXAMPLE_ANSWERS = ("First answer", "another reply")
GENERATION_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""Begins what a template marks as written by the model."""


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
        for beginning, whole in (_rendered(tokenizer, EXAMPLE_QUESTION, answer) for answer in EXAMPLE_ANSWERS)
    ]
    prefix, _, suffix = written[0].partition(EXAMPLE_ANSWERS[0])
    if written != [f"{prefix}{answer}{suffix}" for answer in EXAMPLE_ANSWERS]:
        raise InputError(CHANGED)
    return AnswerFrame(prefix, suffix)


def chat_texts(
    tokenizer: "PreTrainedTokenizerBase", frame: AnswerFrame, asked: Sequence[Message], answer: str
) -> tuple[str, str]:
    """Return a conversation up to the assistant's answer, and with it.

    Args:
        tokenizer: a tokenizer with a chat template.
        frame: what the template writes around an answer.
        asked: the messages before the answer.
        answer: what the assistant answers.

    Raises:
        InputError: the template fails, takes longer than `RENDER_TIMEOUT`, leaves out or changes a message other
            than at its ends, or writes the conversation otherwise than its beginning and the answer.
    """
    beginning, whole = _rendered(tokenizer, asked, answer)
    written = whole.removeprefix(beginning)
    content = written.removeprefix(frame.prefix).removesuffix(frame.suffix)
    framed = written == frame.prefix + content + frame.suffix
    written_whole = all(message["content"].strip() in beginning for message in asked)
    if not written_whole or not framed or content.strip() != answer.strip():
        raise InputError(CHANGED)
    return beginning, whole.removesuffix(frame.suffix) + frame.suffix.rstrip("\n")


def earlier_answers(
    tokenizer: "PreTrainedTokenizerBase", frame: AnswerFrame, asked: Sequence[Message]
) -> list[bool]:
    """Return which tokens of a conversation, rendered up to its last answer, the model writes in earlier answers.

    They are those between the template's generation markers. Without markers, an answer is what follows the
    rendering of the messages before it, up to the template's end of turn.

    Raises:
        InputError: the template fails or takes longer than `RENDER_TIMEOUT`, an earlier answer is not written as
            the last one is, or the tokenizer does not say which characters a token stands for.
    """
    if GENERATION_MARKER.search(tokenizer.get_chat_template()):
        options = {"add_generation_prompt": True, "return_dict": True, "return_assistant_tokens_mask": True}
        encoded = _applied(tokenizer, asked, **options)
        marked = [bool(mark) for mark in encoded["assistant_masks"]]
        if not any(marked):
            raise InputError(EARLIER)
        return marked
    text = _beginning(tokenizer, asked)
    return tokens_between(tokenizer, text, list(_earlier_places(tokenizer, frame, asked, text)))


def tokens_between(
    tokenizer: "PreTrainedTokenizerBase", text: str, places: Sequence[tuple[int, int]]
) -> list[bool]:
    """Return which tokens of a text stand for a character between the first and the second number of a place.

    Raises:
        InputError: the tokenizer does not say which characters a token stands for.
    """
    with library_errors("The tokenizer of the base model does not say where earlier answers stand"):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return [
        any(first < end and start < last for start, end in places)
        for first, last in encoded["offset_mapping"]
    ]


def _earlier_places(
    tokenizer: "PreTrainedTokenizerBase", frame: AnswerFrame, asked: Sequence[Message], text: str
) -> Iterator[tuple[int, int]]:
    """Yield where each of the assistant's answers stands in the rendering of the messages.

    It ends where the last answer of a conversation does, which some templates end with the end of sequence too.
    """
    for number, message in enumerate(asked):
        if message["role"] != "assistant":
            continue
        before = _beginning(tokenizer, asked[:number])
        follows = text.removeprefix(before)
        content = message["content"].strip()
        prefix, _, rest = follows.partition(content)
        if not text.startswith(before) or prefix.strip() not in ("", frame.prefix.strip()):
            raise InputError(EARLIER)
        rest = rest.removeprefix(message["content"].partition(content)[2])
        ends = (frame.suffix, frame.suffix.removesuffix(str(tokenizer.eos_token)))
        end = next(filter(rest.startswith, (each.rstrip("\n") for each in ends)), "")
        yield len(before), len(text) - len(rest.removeprefix(end))


def _rendered(tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Message], answer: str) -> tuple[str, str]:
    """Return the rendering up to the assistant's answer, and with it."""
    beginning = _beginning(tokenizer, asked)
    whole = str(_applied(tokenizer, [*asked, {"role": "assistant", "content": answer}], tokenize=False))
    if not whole.startswith(beginning):
        raise InputError(
            f"The chat template writes a conversation otherwise than its beginning and the answer: {HINT}."
        )
    return beginning, whole


def _beginning(tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Message]) -> str:
    """Return the rendering of messages up to an answer of the assistant."""
    return str(_applied(tokenizer, asked, add_generation_prompt=True, tokenize=False))


def _applied(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], **options: Any) -> Any:
    conversation: Any = list(messages)
    with library_errors(FAILED), _time_limit():
        template = PINNED_CLOCK + tokenizer.get_chat_template()
        return tokenizer.apply_chat_template(conversation, chat_template=template, **options)


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
