"""Evaluation as a task of the pipeline: the run's outputs and settings in, artifacts out."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradsift.components.evaluation import step
from gradsift.components.evaluation.kernel.expansion import Expansion
from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.artifacts.step_output import copy_file, fetch
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.records.planning import SCOPE_SWEEP
from gradsift.components.shared.records.run_plans import read_groups
from gradsift.components.shared.tracking.step_run import run_step


def evaluate(
    evaluation: Any,
    metrics: Any,
    confusion: Any,
    report: Any,
    inputs: str,
    settings: Mapping[str, Any],
    comparisons: Sequence[str],
) -> str:
    """Measure on held-out data what the selection bought, and write the report."""
    config, root = EvaluationConfig(**settings["config"]), settings["output_uri"]
    outputs = read_outputs(inputs, root)
    data, selection, model = (outputs[name] for name in ("data", "selection", "fine_tuned_model"))
    theta = outputs["meta_model"]
    optional = step.OptionalParts(
        expansion=Expansion(theta, outputs["gradients"]) if config.kernel_rows else None,
        sweep=outputs.get(SCOPE_SWEEP),
        sampled=theta if "sampler" in theta.metadata else None,
        fairness=FairnessConfig(**settings["fairness"]) if "fairness" in settings else None,
    )
    outputs["evaluation"] = output = run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda tracker: step.evaluate(
            config,
            data,
            selection,
            model,
            read_groups(comparisons, root),
            root,
            tracker,
            optional,
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
    return write_outputs(outputs, root)
