"""Evaluation as a task of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.evaluation import step
from gradsift.components.shared.artifacts.step_output import copy_file, fetch, read_pointer
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.tracking.step_run import run_step


def evaluate(
    data: Any,
    selection: Any,
    model: Any,
    evaluation: Any,
    metrics: Any,
    confusion: Any,
    report: Any,
    settings: Mapping[str, Any],
) -> None:
    """Measure on held-out data what the selection bought, and write the report."""
    config = EvaluationConfig(**settings["config"])
    output = run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda tracker: step.evaluate(
            config,
            read_pointer(data),
            read_pointer(selection),
            read_pointer(model),
            settings["output_uri"],
            tracker,
            launcher_on(settings.get("node_resources", {})),
        ),
        evaluation,
    )
    for name, value in output.metadata.items():
        if isinstance(value, float):
            metrics.log_metric(name, value)
    found = Evaluation.read(fetch(output, [Evaluation.FILE]))
    if found.confusion is not None:
        confusion.log_confusion_matrix(found.confusion.labels, found.confusion.matrix)
    copy_file(output, step.REPORT, report)
