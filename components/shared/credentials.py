"""Keeps credentials out of texts: errors, logs, tracebacks and tracking events are redacted where they are made."""

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from io import StringIO
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote

PAIRS = [
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
]
"""Variables that are useless without each other."""
VARIABLES = [
    *(name for pair in PAIRS for name in pair),
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "GRADSIFT_KFP_TOKEN",
]
"""Environment variables that hold a credential."""
NAMES = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS|CONNECTION_STRING)$", re.IGNORECASE)
"""Names of other variables that hold one: pods are given whatever a team's Secret holds."""
MIN_LENGTH = 6
"""Shorter values of these are no credentials."""
MASK = "***"
SHORT = 4
"""Shorter credentials are replaced only where they stand alone: most words hold so few characters by chance."""
LOGIN = re.compile(r"(?<=//)[^\s/]*@")
"""The `user:password@` of an address."""
LOGINS_OF_VARIABLE = (re.compile(r"//([^\s/]*)@"), re.compile(r"//([^\s/:]+:(?!\d+/).*)@"))
"""The same of a variable that holds an address, and where the password has the `/` that it should not have."""


def with_white_space() -> list[str]:
    """Return the variables whose credential has white space around it, such as the line break of a file."""
    return [name for name in VARIABLES if (value := os.environ.get(name, "")) != value.strip()]


def redacted(text: str) -> str:
    """Return a text with `***` for each credential of the environment and each `user:password` of an address.

    A credential is found as it is, without the white space around it, and as Python, JSON and addresses write it.
    """
    forms = sorted(set(_forms()), key=len, reverse=True)
    if forms:
        text = re.sub("|".join(map(_pattern, forms)), MASK, text)
    return LOGIN.sub(f"{MASK}@", text)


def redacted_json(value: Any) -> Any:
    """Return a JSON value whose texts are redacted; what JSON does not know becomes a redacted text."""
    if isinstance(value, Mapping):
        return {redacted(str(name)): redacted_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_json(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redacted(str(value))


def redact_output() -> None:
    """Redact, from now on, what this process logs and the tracebacks that it prints."""
    logging.setLogRecordFactory(_RedactedRecord)
    if getattr(sys.excepthook, "__module__", None) != __name__:
        sys.excepthook = _redacting(sys.excepthook)
    if getattr(threading.excepthook, "__module__", None) != __name__:
        threading.excepthook = _redacting(threading.excepthook)


class _RedactedRecord(logging.LogRecord):
    """A log record whose message and traceback are redacted."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.exc_info and self.exc_info[0]:
            self.exc_text = redacted("".join(traceback.format_exception(*self.exc_info)).rstrip("\n"))

    def getMessage(self) -> str:  # noqa: N802 (logging's own name)
        return redacted(super().getMessage())


def _redacting(hook: Any) -> Any:
    """Return a hook for uncaught exceptions that prints what `hook` would, redacted."""

    def print_redacted(*arguments: type[BaseException] | BaseException | TracebackType | None) -> None:
        with redirect_stderr(StringIO()) as output:
            hook(*arguments)
        sys.stderr.write(redacted(output.getvalue()))
        sys.stderr.flush()

    return print_redacted


def _forms() -> Iterator[str]:
    """Yield every text that shows a credential of the environment."""
    for value in _credentials():
        for text in {value, unquote(value), " ".join(value.split()), *value.splitlines()}:
            form = text.strip()
            in_bytes = repr(form.encode(errors="surrogateescape"))[2:-1]
            in_address = [quote(form, safe, errors="surrogateescape") for safe in ("/", "")]
            yield from filter(None, (form, repr(form)[1:-1], in_bytes, json.dumps(form)[1:-1], *in_address))


def _credentials() -> Iterator[str]:
    """Yield the credentials that the environment holds: in variables of their own, and in addresses."""
    yield from filter(None, map(os.environ.get, VARIABLES))
    for name, value in os.environ.items():
        if NAMES.search(name) and len(value.strip()) >= MIN_LENGTH and not _is_path(value):
            yield value
        for pattern in LOGINS_OF_VARIABLE:
            if login := pattern.search(value):
                yield login[1]
                yield login[1].partition(":")[2]


def _is_path(value: str) -> bool:
    return os.path.exists(value)  # noqa: PTH110 (Path raises for a value that can be no path)


def _pattern(form: str) -> str:
    return rf"(?<!\w){re.escape(form)}(?!\w)" if len(form) < SHORT else re.escape(form)
