"""Checks that both `gradsift doctor` and the preflight step make: of credentials, an MLflow server, a run root."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from gradsift.components.shared.credentials import PAIRS, VARIABLES, redacted, with_white_space
from gradsift.components.shared.errors import GradsiftError, InputError
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.mlflow_connection import contact, mlflow_errors

TRACKING = "MLFLOW_TRACKING_URI"
Check = Callable[[], str]


@dataclass(frozen=True)
class Finding:
    """What one check found, in words, and whether it is in order."""

    check: str
    fine: bool
    words: str


def make_checks(checks: dict[str, Check]) -> list[Finding]:
    """Make every check, whatever the others find; a check returns its words or raises a `GradsiftError`."""
    return [_finding(name, check) for name, check in checks.items()]


def check_secrets() -> str:
    """Say which credentials the environment holds.

    Raises:
        InputError: one of a pair is missing, or some have white space around them.
    """
    for one, other in [*PAIRS, *((second, first) for first, second in PAIRS)]:
        if os.environ.get(one) and not os.environ.get(other):
            raise InputError(f"The secret that holds {one} does not hold {other}: expected both or neither.")
    if spaced := with_white_space():
        raise InputError(
            f"White space stands before or after the value of {', '.join(spaced)}: expected the credential alone, "
            "without a line break at its end."
        )
    present = [name for name in VARIABLES if os.environ.get(name)]
    return f"{', '.join(present)} given" if present else "none given in the environment"


def check_mlflow() -> str:
    """Ask the MLflow server that the environment names, if any, whether it lets us in.

    Raises:
        TrackingError: it does not answer.
    """
    uri = os.environ.get(TRACKING)
    if not uri:
        return f"{TRACKING} is not set: each run root gets a database of its own"
    with mlflow_errors(uri, f"that {TRACKING} names does not answer"):
        contact(uri)
    return "the tracking server answers"


def check_run_root(uri: str) -> str:
    """Write, read and delete a file of random content.

    Raises:
        GradsiftError: that cannot be done, or other bytes come back.
    """
    storage = open_storage(uri)
    key, content = f"doctor-{secrets.token_hex(8)}", secrets.token_bytes(1024)
    storage.write(key, content)
    try:
        if storage.read(key) != content:
            raise InputError(f"{uri} gives back other bytes than were written.")
    finally:
        storage.delete(key)
    return f"{uri} can be written, read and deleted from"


def _finding(name: str, check: Check) -> Finding:
    try:
        return Finding(name, True, redacted(check()))
    except GradsiftError as error:
        return Finding(name, False, str(error))
