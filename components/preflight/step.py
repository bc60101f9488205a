"""The step: check parameters, run root, suite, base model and MLflow, and report all that is wrong at once."""

import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from gradsift.components.preflight.base_model import check_model
from gradsift.components.preflight.checks import (
    TRACKING,
    Check,
    Finding,
    check_mlflow,
    check_run_root,
    check_secrets,
    make_checks,
)
from gradsift.components.preflight.cost.expected import expected_cost
from gradsift.components.preflight.groups import check_groups
from gradsift.components.shared.data.suites.task_suite import find_tasks, read_target
from gradsift.components.shared.documents.texts import markdown_text
from gradsift.components.shared.errors import InputError, StorageError, shown_names
from gradsift.components.shared.parameters.calibration import CalibrationConfig, random_subset_count
from gradsift.components.shared.parameters.data import SEPARATOR, DataPreparationConfig
from gradsift.components.shared.parameters.estimation import EstimationSettings
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.extraction import ExtractionSettings, cluster_name
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.pipeline_settings import (
    PipelineSettings,
    defaults,
    parameters_of,
    values_of,
)
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.settings import SettingsError
from gradsift.components.shared.parameters.training import FineTuningLayers
from gradsift.components.shared.process.lifeline import hold_lifeline
from gradsift.components.shared.process.protection import protect_process
from gradsift.components.shared.storage.addresses import is_remote
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.run_record import PREFLIGHT
from gradsift.components.shared.tracking.tracking import track_step

RUN_ROOT, MLFLOW = "run root", "MLflow"


def preflight(form: Mapping[str, Any], report: Path) -> PipelineSettings:
    """Check everything that can be known to be wrong by now.

    An MLflow server that does not answer is a warning, as a run loses nothing by it, but where a model is to be
    registered.

    Args:
        form: the fields of the pipeline's form; what is left out has its default.
        report: file for the findings and the expected cost, in Markdown, which Kubeflow shows where all is well;
            findings are printed, too.

    Returns:
        All settings.

    Raises:
        SettingsError: things are wrong; it has a sentence for each.
    """
    protect_process()
    hold_lifeline()
    parameters = {**defaults(), **parameters_of(form)}
    root = parameters["output_uri"]
    warnings = set() if parameters["promote_model_name"] else {MLFLOW}
    [root_finding] = make_checks({RUN_ROOT: lambda: _check_run_root(parameters)})
    with ExitStack() as stack:
        if root_finding.fine:  # otherwise there is no place for a record
            stack.enter_context(track_step(PREFLIGHT, root, parameters))
        findings = [root_finding, *examine(parameters)]
        print("\n".join(log_lines(findings, warnings)), flush=True)
        problems = [each.words for each in findings if not each.fine and each.check not in warnings]
        cost = "" if problems else f"\n## Expected cost\n\n{expected_cost(PipelineSettings.of(parameters))}"
        with atomic_file(report) as path:
            path.write_text(markdown(findings, warnings) + cost, encoding="utf-8")
        if problems:
            raise SettingsError(problems)
    return PipelineSettings.of(parameters)


def examine(parameters: Mapping[str, Any]) -> list[Finding]:
    """Make every check but that of the run root."""
    checks: dict[str, Check] = {"secrets": check_secrets, MLFLOW: lambda: _check_mlflow(parameters)}
    with suppress(SettingsError):  # reported below
        data = DataPreparationConfig(**values_of(DataPreparationConfig, parameters))
        checks["suite"] = lambda: find_tasks(data).sentence
        estimation = EstimationSettings(**values_of(EstimationSettings, parameters))
        calibration = CalibrationConfig(**values_of(CalibrationConfig, parameters))
        clusters = ExtractionSettings(**values_of(ExtractionSettings, parameters)).cluster_sources
        sampling = MetaSampling(**values_of(MetaSampling, parameters))
        checks["suite"] = lambda: _check_suite(data, estimation, calibration, clusters, sampling)
    with suppress(SettingsError):
        model = ModelConfig(**values_of(ModelConfig, parameters))
        checks["base model"] = lambda: check_model(model)
        layers = FineTuningLayers(**values_of(FineTuningLayers, parameters))
        checks["base model"] = lambda: check_model(model, layers.scopes)
        evaluation = EvaluationConfig(**values_of(EvaluationConfig, parameters))
        checks["base model"] = lambda: check_model(model, layers.scopes, evaluation)
    with suppress(SettingsError):
        fairness = FairnessConfig(**values_of(FairnessConfig, parameters))
        if fairness.group and "suite" in checks and "base model" in checks:
            checks["groups"] = lambda: check_groups(fairness, data, model)
    return [*_check_parameters(parameters), *make_checks(checks)]


def _check_parameters(parameters: Mapping[str, Any]) -> list[Finding]:
    try:
        PipelineSettings.of(parameters)
    except SettingsError as error:
        return [Finding("parameters", False, problem) for problem in error.problems]
    return [Finding("parameters", True, f"all {len(parameters)} are possible")]


def _check_suite(
    data: DataPreparationConfig,
    estimation: EstimationSettings,
    calibration: CalibrationConfig,
    clusters: int,
    sampling: MetaSampling,
) -> str:
    """Say which tasks of the suite will be used; settings that name or count tasks must fit them.

    Sources may be cut into so many `clusters` each, whose names end with a number.
    """
    found = find_tasks(data)
    if found.into_periods and all(row.time is None for row in read_target(data, "val").splits["val"]):
        raise InputError(
            f"Parameter prepare_periods is {data.periods!r}: expected 'none', as no val row of the target "
            f"{found.target!r} has a 'time' or 'date'."
        )
    tasks = found.auxiliary_tasks
    for parameter, names in (
        ("estimate_required_tasks", estimation.required_tasks),
        ("estimate_excluded_tasks", estimation.excluded_tasks),
    ):
        for name in names:
            source = name.rpartition(SEPARATOR)[0]
            is_cluster = name in {cluster_name(source, number) for number in range(clusters)}
            if not found.may_have(name) and not (is_cluster and found.may_have(source)):
                raise InputError(
                    f"Parameter {parameter} holds {name!r}: expected one of the auxiliary tasks "
                    f"{shown_names([*tasks, *found.cut_data])}."
                )
    most = random_subset_count(len(tasks))
    if calibration.runs > most and not found.may_have_more and not clusters:
        raise InputError(
            f"Parameter calibrate_runs is {calibration.runs}: expected at most {most}, all subsets that "
            f"{len(tasks)} auxiliary tasks have beside none and all."
        )
    if not found.may_have_more and (problems := list(sampling.check_tasks(len(tasks)))):
        raise SettingsError(problems)
    return found.sentence


def markdown(findings: list[Finding], warnings: Collection[str]) -> str:
    """Return the findings as a list; what is not fine is wrong, or in some checks only a warning."""
    lines = (
        f"- **{_mark(each, warnings)}** {each.check}: {markdown_text(each.words)}\n" for each in findings
    )
    return f"# Preflight\n\n{''.join(lines)}"


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


def _check_mlflow(parameters: Mapping[str, Any]) -> str:
    if is_remote(parameters["output_uri"]) and not os.environ.get(TRACKING):
        if name := parameters["promote_model_name"]:
            raise InputError(f"{TRACKING} is not set: expected the server to register the model {name!r} in.")
        return f"{TRACKING} is not set: nothing is sent, the record stays in the run root"
    return check_mlflow()
