"""Checks that both `gradsift doctor` and the preflight step make: of credentials, an MLflow server, a run root."""

import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gradsift.components.shared.credentials import PAIRS, VARIABLES, redacted, with_white_space
from gradsift.components.shared.errors import GradsiftError, InputError
from gradsift.components.shared.storage.addresses import is_remote
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.mlflow_connection import contact, mlflow_errors

TRACKING = "MLFLOW_TRACKING_URI"
IN_PARTS = 9 * 2**20
"""Bytes of a file that boto3 uploads in parts, as it does with models and shards."""
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
    """Do with files of random content what a run does: create, replace, list, copy there and back, and delete.

    Raises:
        GradsiftError: that cannot be done, or other bytes come back.
    """
    storage = open_storage(uri)
    prefix, content = f"doctor-{secrets.token_hex(8)}", secrets.token_bytes(1024)
    created, copied = f"{prefix}-created", f"{prefix}-copied"
    storage.create(created, content)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(secrets.token_bytes(IN_PARTS if is_remote(uri) else 1024))
        try:
            storage.write(created, content)
            storage.upload(file, copied)
            storage.download(copied, file.with_name("copy"))
            same = (
                storage.read(created) == content and file.with_name("copy").read_bytes() == file.read_bytes()
            )
            if not same or storage.keys(prefix) != [copied, created]:
                raise InputError(f"{uri} gives back other bytes or names than were written.")
        finally:
            for key in (created, copied):
                storage.delete(key)
    return f"{uri} can be written, read and deleted from"


def _finding(name: str, check: Check) -> Finding:
    try:
        return Finding(name, True, redacted(check()))
    except GradsiftError as error:
        return Finding(name, False, str(error))
