"""Errors that the user can put right; the message of each is one clear sentence, without credentials."""

from collections.abc import Iterable
from typing import Any

from gradsift.components.shared.credentials import redacted


class GradsiftError(Exception):
    """Base of every error that is shown to the user as one sentence, without a traceback (exit code 2).

    The message may quote a library, an address or a file's name: credentials are taken out of it, and line breaks
    and other characters that cannot be seen are shown as Python writes them.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_visible(redacted(message)))


class InputError(GradsiftError):
    """Data or a parameter is not what was expected; the message names the file, row or field."""


class StorageError(GradsiftError):
    """A file or object cannot be read or written; the message names its address and the reason."""


class OutageError(GradsiftError):
    """Something needed is out of reach for now; to ask again later may help (see `outages`)."""


class StorageOutageError(StorageError, OutageError):
    """The object store does not answer, or is overloaded."""


class NotFoundError(StorageError):
    """A file or object does not exist."""


class AlreadyExistsError(StorageError):
    """A file or object that may only be created is there already, with other content."""


class GradientStoreError(GradsiftError):
    """A gradient store is unfinished, damaged, or was made for other weights or data."""


class TrainingError(GradsiftError):
    """A training process ended without a result; the message gives the end of its output."""


class TrackingError(GradsiftError):
    """The tracking server did not take what steps recorded; it stays in the logs and can be sent later."""


class TrackingOutageError(TrackingError, OutageError):
    """The tracking server does not answer."""


class GpuMemoryError(OutageError):
    """Another process holds memory of the GPU that this one needs."""


class BatchMemoryError(GradsiftError):
    """The rows that a process takes through the model at once do not fit into its GPU; fewer of them may."""


class RunFailedError(GradsiftError):
    """A run ended without its result; the message says which step failed, why, and where the log is."""


class ExtractionError(GradsiftError):
    """Gradients came out wrong in a check, or an extraction process ended without a result."""


def numbered(sentences: list[str]) -> str:
    """Return several sentences as one message: a single one as it is, more than one counted and numbered."""
    if len(sentences) == 1:
        return sentences[0]
    each = " ".join(f"({number}) {sentence}" for number, sentence in enumerate(sentences, start=1))
    return f"{len(sentences)} things are wrong. {each}"


def shown(value: Any) -> str:
    """Return `value` as it is shown in an error, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _visible(text: str) -> str:
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def shown_names(names: Iterable[str]) -> str:
    """Return names as they are listed in an error: the first twelve."""
    every = list(names)
    return ", ".join(every[:12]) + (f", ... ({len(every)} in all)" if len(every) > 12 else "")
