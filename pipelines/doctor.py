"""What `gradsift doctor` checks: that this installation and what it is to work with are in order."""

import importlib.metadata
import os
import platform
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from gradsift.components.shared.errors import GradsiftError, InputError
from gradsift.components.shared.storage import open_storage

TRACKING = "MLFLOW_TRACKING_URI"
Check = Callable[[], str]


@dataclass(frozen=True)
class Finding:
    """What one check found, in words, and whether it is in order."""

    check: str
    fine: bool
    words: str


def examine(output: str | None) -> list[Finding]:
    """Make every check, whatever the others found.

    Args:
        output: a run root to write to, read from and delete from; None leaves that out.
    """
    checks: dict[str, Check] = {"packages": _packages, "training": _training, "MLflow": _mlflow}
    if output is not None:
        checks["run root"] = lambda: _run_root(output)
    return [_finding(name, check) for name, check in checks.items()]


def _finding(name: str, check: Check) -> Finding:
    try:
        return Finding(name, True, check())
    except GradsiftError as error:
        return Finding(name, False, str(error))


def _packages() -> str:
    names = ("gradsift", "kfp", "mlflow", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"Python {platform.python_version()}, {versions}"


def _training() -> str:
    try:
        import torch
    except ImportError:
        return "no torch: estimates and selects, but trains nothing"
    try:
        deepspeed = importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError("torch is installed without deepspeed: expected the extra 'train'.") from error
    return f"torch {torch.__version__}, deepspeed {deepspeed}, {torch.cuda.device_count()} GPUs"


def _mlflow() -> str:
    uri = os.environ.get(TRACKING)
    if not uri:
        return f"{TRACKING} is not set: each run root gets a database of its own"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        MlflowClient(uri).search_experiments(max_results=1)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The server that {TRACKING} names does not answer: {reason}") from error
    return "the tracking server answers"


def _run_root(uri: str) -> str:
    storage = open_storage(uri)
    key, content = f"doctor-{secrets.token_hex(8)}", secrets.token_bytes(1024)
    storage.write(key, content)
    try:
        if storage.read(key) != content:
            raise InputError(f"{uri} gives back other bytes than were written.")
    finally:
        storage.delete(key)
    return f"{uri} can be written, read and deleted from"
