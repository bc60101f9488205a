"""Catches whatever the libraries that read model files raise, and makes one sentence of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from gradsift.components.shared.errors import InputError


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn whatever a library raises in the block into an InputError.

    Args:
        what: the beginning of the sentence, such as "The tokenizer of 'm' cannot be used".
    """
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the tokenizers' Rust code is no Exception
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{what}: {type(error).__name__}{reason and f', {reason}'}.") from error
