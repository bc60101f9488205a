"""The step: check parameters, run root, suite, base model and MLflow, and report all that is wrong at once."""

import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from gradsift.components.preflight.checks import (
    TRACKING,
    Check,
    Finding,
    check_mlflow,
    check_run_root,
    make_checks,
)
from gradsift.components.shared.artifacts.markdown import escaped
from gradsift.components.shared.data.suites.task_suite import find_tasks
from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.models.base_model import check_base_model
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.pipeline_settings import (
    PipelineSettings,
    defaults,
    parameters_of,
    values_of,
)
from gradsift.components.shared.parameters.settings import SettingsError
from gradsift.components.shared.process.lifeline import hold_lifeline
from gradsift.components.shared.storage.addresses import is_remote
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.run_record import PREFLIGHT
from gradsift.components.shared.tracking.tracking import track_step

RUN_ROOT, MLFLOW = "run root", "MLflow"
PAIRS = [
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
]
SECRETS = [*(name for pair in PAIRS for name in pair), "MLFLOW_TRACKING_TOKEN", "HF_TOKEN"]


def preflight(form: Mapping[str, Any], report: Path) -> PipelineSettings:
    """Check everything that can be known to be wrong by now.

    An MLflow server that does not answer is a warning, as a run loses nothing by it, but where a model is to be
    registered.

    Args:
        form: the fields of the pipeline's form; what is left out has its default.
        report: file for the findings, in Markdown, which Kubeflow shows where all is well; they are printed, too.

    Returns:
        All settings.

    Raises:
        SettingsError: things are wrong; it has a sentence for each.
    """
    hold_lifeline()
    parameters = {**defaults(), **parameters_of(form)}
    root = parameters["output_uri"]
    warnings = set() if parameters["promote_model_name"] else {MLFLOW}
    [root_finding] = make_checks({RUN_ROOT: lambda: _check_run_root(parameters)})
    with ExitStack() as stack:
        if root_finding.fine:  # otherwise there is no place for a record
            stack.enter_context(track_step(PREFLIGHT, root, parameters))
        findings = [root_finding, *examine(parameters)]
        with atomic_file(report) as path:
            path.write_text(markdown(findings, warnings), encoding="utf-8")
        print("\n".join(log_lines(findings, warnings)), flush=True)
        problems = [each.words for each in findings if not each.fine and each.check not in warnings]
        if problems:
            raise SettingsError(problems)
    return PipelineSettings.of(parameters)


def examine(parameters: Mapping[str, Any]) -> list[Finding]:
    """Make every check but that of the run root."""
    checks: dict[str, Check] = {"secrets": _check_secrets, MLFLOW: lambda: _check_mlflow(parameters)}
    with suppress(SettingsError):  # reported below
        data = DataPreparationConfig(**values_of(DataPreparationConfig, parameters))
        checks["suite"] = lambda: find_tasks(data)
    checks["base model"] = lambda: check_base_model(parameters["base_model"])
    return [*_check_parameters(parameters), *make_checks(checks)]


def _check_parameters(parameters: Mapping[str, Any]) -> list[Finding]:
    try:
        PipelineSettings.of(parameters)
    except SettingsError as error:
        return [Finding("parameters", False, problem) for problem in error.problems]
    return [Finding("parameters", True, f"all {len(parameters)} are possible")]


def markdown(findings: list[Finding], warnings: Collection[str]) -> str:
    """Return a table of the findings; what is not fine is wrong, or but a warning in some checks."""
    rows = "\n".join(
        f"| {_mark(each, warnings)} | {each.check} | {escaped(each.words)} |" for each in findings
    )
    return f"# Preflight\n\n| | check | finding |\n|---|---|---|\n{rows}\n"


def log_lines(findings: list[Finding], warnings: Collection[str]) -> list[str]:
    """Return the same for a log: Kubeflow keeps no artifact of a step that fails."""
    return [f"{_mark(each, warnings):7} {each.check}: {' '.join(each.words.split())}" for each in findings]


def _mark(finding: Finding, warnings: Collection[str]) -> str:
    if finding.fine:
        return "ok"
    return "warning" if finding.check in warnings else "wrong"


def _check_run_root(parameters: Mapping[str, Any]) -> str:
    root = parameters["output_uri"]
    try:
        return check_run_root(root)
    except StorageError as error:
        if not is_remote(root) or "AWS_ACCESS_KEY_ID" in os.environ:
            raise
        secret = parameters["platform_secret"]
        raise InputError(
            f"{error} On Kubernetes, credentials come from the Secret {secret!r} (parameter platform_secret), "
            "or from the pod's identity."
        ) from error


def _check_secrets() -> str:
    """Say which credentials the environment holds; their values are not looked at."""
    for one, other in [*PAIRS, *((second, first) for first, second in PAIRS)]:
        if os.environ.get(one) and not os.environ.get(other):
            raise InputError(f"The secret that holds {one} does not hold {other}: expected both or neither.")
    present = [name for name in SECRETS if os.environ.get(name)]
    return f"{', '.join(present)} given" if present else "none given in the environment"


def _check_mlflow(parameters: Mapping[str, Any]) -> str:
    if is_remote(parameters["output_uri"]) and not os.environ.get(TRACKING):
        if name := parameters["promote_model_name"]:
            raise InputError(f"{TRACKING} is not set: expected the server to register the model {name!r} in.")
        return f"{TRACKING} is not set: nothing is sent, the record stays in the run root"
    return check_mlflow()
