"""The end of a run as tasks of the pipeline: the run's outputs and settings in, a summary out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradsift.components.promotion.summary import summary_of, unchanged
from gradsift.components.shared.artifacts.run_outputs import read_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.model_registry.schedules import schedule_tags
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.step_run import begin_step


def conclude(summary: Any, inputs: str, settings: Mapping[str, Any]) -> None:
    """Register the fine-tuned model where a name for it is given, and say how the run ended."""
    config = PromotionConfig(**settings["config"])
    outputs = read_outputs(inputs, settings["output_uri"])
    decision = _promote(config, outputs, settings) if config.model_name else None
    _write(summary_of(outputs["evaluation"], outputs["fine_tuned_model"], decision), summary)


def conclude_unchanged(summary: Any, settings: Mapping[str, Any]) -> None:
    """Say that the run ended early, as it had nothing new to learn from."""
    _write(unchanged(PromotionConfig(**settings["config"])), summary)


def _promote(config: PromotionConfig, outputs: Mapping[str, StepOutput], settings: Mapping[str, Any]) -> str:
    """Register the model as candidate, and as champion if it is good enough; return the decision in words."""
    from gradsift.components.promotion import step  # the image of the other task has not what it needs

    data = outputs.get("whole_data", outputs["data"])  # what the next run compares its data with
    model, root = outputs["fine_tuned_model"], settings["output_uri"]
    with begin_step(step.STEP, settings, config.model_dump()) as tracker:
        tags = schedule_tags(outputs["meta_model"])
        made = step.promote(config, data, model, settings["digest"], root, tracker, tags)
        tracker.metrics({"promoted": float(made.promoted)})
    return made.words


def _write(text: str, summary: Any) -> None:
    """Write a run's summary where Kubeflow shows it, and into the log."""
    with atomic_file(Path(summary.path)) as path:
        path.write_text(text, encoding="utf-8")
    print(text, flush=True)
