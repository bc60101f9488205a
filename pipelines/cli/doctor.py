"""What `gradsift doctor` checks: that this installation and what it is to work with are in order."""

import importlib.metadata
import platform

from gradsift.components.preflight.checks import (
    Check,
    Finding,
    check_mlflow,
    check_run_root,
    check_secrets,
    make_checks,
)
from gradsift.components.shared.errors import InputError


def examine(output: str | None) -> list[Finding]:
    """Make every check, whatever the others found.

    Args:
        output: a run root to write to, read from and delete from; None leaves that out.
    """
    checks: dict[str, Check] = {
        "packages": _packages,
        "training": _training,
        "secrets": check_secrets,
        "MLflow": check_mlflow,
    }
    if output is not None:
        checks["run root"] = lambda: check_run_root(output)
    return make_checks(checks)


def _packages() -> str:
    names = ("gradsift", "kfp", "mlflow-skinny", "numpy")
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
