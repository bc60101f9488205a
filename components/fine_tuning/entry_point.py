"""Fine-tuning runs as tasks of the pipeline: the run's outputs and settings in, an artifact and plans out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.fine_tuning import final_model, plan, step
from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import (
    FineTuningStart,
    ParallelRunsSettings,
    Start,
    TrainingRecipe,
)
from gradsift.components.shared.records.run_plans import read_group, write_groups
from gradsift.components.shared.tracking.step_run import begin_step, run_step


def plan_calibration(inputs: str, settings: Mapping[str, Any]) -> list[str]:
    """Plan the runs that calibrate the estimates; none where `calibrate_runs` is 0."""
    config, root = CalibrationConfig(**settings["calibration"]), settings["output_uri"]
    if config.runs == 0:
        return []

    outputs = read_outputs(inputs, root)
    model, recipe = _model(settings, outputs["data"]), TrainingRecipe(**settings["recipe"])
    with begin_step(f"{plan.CALIBRATION}-plan", settings, config.model_dump()) as tracker:
        groups = plan.plan_calibration(
            config,
            outputs["data"],
            outputs["meta_model"],
            model,
            recipe,
            root,
            _parallel_runs(settings),
            _start(settings),
        )
        tracker.metrics({"groups": len(groups)})
        return write_groups(groups, root)


def train_runs(inputs: str, settings: Mapping[str, Any], planned: str) -> None:
    """Train a group of fine-tuning runs; those that are finished are not trained again."""
    root = settings["output_uri"]
    data, group = read_outputs(inputs, root)["data"], read_group(planned, root)
    launcher = launcher_on(settings.get("node_resources", {}))
    with begin_step(f"{group.purpose}-{group.number}", settings, {"runs": len(group.runs)}) as tracker:
        records = step.train_runs(group, data, root, tracker, launch=launcher)
        if all(record.reused for record in records):
            tracker.reused()
        tracker.metrics({"runs": len(records)})


def fine_tune_target(
    fine_tuned_model: Any, inputs: str, settings: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """Fine-tune on the selected tasks and the target, keep the model, and plan what it is compared by."""
    root, launcher = settings["output_uri"], launcher_on(settings.get("node_resources", {}))
    outputs = read_outputs(inputs, root)
    data, selection = outputs["data"], outputs["selection"]
    config, recipe = _model(settings, data), TrainingRecipe(**settings["recipe"])
    meta = outputs["meta_model"] if _start(settings) == "meta" else None
    outputs["fine_tuned_model"] = model = run_step(
        final_model.STEP,
        settings,
        {**config.model_dump(), **recipe.model_dump()},
        lambda tracker: final_model.fine_tune_target(
            config, recipe, data, selection, root, tracker, launcher, meta
        ),
        fine_tuned_model,
    )
    comparisons = ComparisonConfig(**settings["comparisons"])
    with begin_step(f"{plan.COMPARISONS}-plan", settings, comparisons.model_dump()) as tracker:
        groups = plan.plan_comparisons(
            comparisons, data, selection, model, root, _parallel_runs(settings), meta
        )
        tracker.metrics({"groups": len(groups)})
        return write_outputs(outputs, root), write_groups(groups, root)


def _model(settings: Mapping[str, Any], data: StepOutput) -> ModelConfig:
    return ModelConfig(**settings["model"]).resolved(data.metadata["max_length"])


def _parallel_runs(settings: Mapping[str, Any]) -> int:
    return ParallelRunsSettings(**settings["groups"]).parallel_runs


def _start(settings: Mapping[str, Any]) -> Start:
    return FineTuningStart(**settings["start"]).start
