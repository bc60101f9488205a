"""Evaluation as a task of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradsift.components.evaluation import step
from gradsift.components.shared.artifacts.step_output import copy_file, fetch, read_pointer
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.records.run_plans import read_groups
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
    comparisons: Sequence[str],
) -> None:
    """Measure on held-out data what the selection bought, and write the report."""
    config, root = EvaluationConfig(**settings["config"]), settings["output_uri"]
    output = run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda tracker: step.evaluate(
            config,
            read_pointer(data),
            read_pointer(selection),
            read_pointer(model),
            read_groups(comparisons, root),
            root,
            tracker,
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
