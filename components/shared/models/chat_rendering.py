"""Renders a conversation by a tokenizer's chat template, which is a program that others wrote."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.library_errors import library_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RENDER_TIMEOUT = 5.0
"""Seconds for one conversation."""
FAILED = "The chat template of the base model cannot be used"
HINT = "expected prompt_form 'plain' for this base model"


def chat_texts(tokenizer: "PreTrainedTokenizerBase", prompt: str, answer: str) -> tuple[str, str]:
    """Return a conversation up to the assistant's answer, and with it.

    Args:
        tokenizer: a tokenizer with a chat template.
        prompt: the user's message.
        answer: the assistant's.

    Raises:
        InputError: the template fails, takes longer than `RENDER_TIMEOUT`, leaves out a message, or writes the
            conversation otherwise than its beginning and the answer.
    """
    asked = [{"role": "user", "content": prompt}]
    answered = [*asked, {"role": "assistant", "content": answer}]
    with library_errors(FAILED), _time_limit():
        beginning = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
        whole = str(tokenizer.apply_chat_template(answered, tokenize=False)).rstrip("\n")
    if not whole.startswith(beginning):
        raise InputError(
            f"The chat template writes a conversation otherwise than its beginning and the answer: {HINT}."
        )
    if prompt.strip() not in beginning or answer.strip() not in whole[len(beginning) :]:
        raise InputError(f"The chat template leaves out a message of the conversation: {HINT}.")
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
