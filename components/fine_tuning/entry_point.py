"""Fine-tuning runs as tasks of the pipeline: artifacts and settings in, artifacts and plans out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.fine_tuning import final_model, plan, step
from gradsift.components.shared.artifacts.step_output import read_pointer
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


def plan_calibration(data: Any, meta_model: Any, settings: Mapping[str, Any]) -> list:
    """Plan the runs that calibrate the estimates; none where `calibrate_runs` is 0."""
    config, root = CalibrationConfig(**settings["config"]), settings["output_uri"]
    if config.runs == 0:
        return []

    model, recipe = ModelConfig(**settings["model"]), TrainingRecipe(**settings["recipe"])
    with begin_step(f"{plan.CALIBRATION}-plan", settings, config.model_dump()) as tracker:
        groups = plan.plan_calibration(
            config,
            read_pointer(data),
            read_pointer(meta_model),
            model,
            recipe,
            root,
            _parallel_runs(settings),
            _start(settings),
        )
        tracker.metrics({"groups": len(groups)})
        return write_groups(groups, root)


def train_runs(data: Any, settings: Mapping[str, Any], planned: str) -> None:
    """Train a group of fine-tuning runs; those that are finished are not trained again."""
    root = settings["output_uri"]
    group = read_group(planned, root)
    launcher = launcher_on(settings.get("node_resources", {}))
    with begin_step(f"{group.purpose}-{group.number}", settings, {"runs": len(group.runs)}) as tracker:
        records = step.train_runs(group, read_pointer(data), root, tracker, launch=launcher)
        if all(record.reused for record in records):
            tracker.reused()
        tracker.metrics({"runs": len(records)})


def fine_tune_target(
    data: Any, meta_model: Any, selection: Any, model: Any, settings: Mapping[str, Any]
) -> list:
    """Fine-tune on the selected tasks and the target, keep the model, and plan what it is compared by."""
    config, recipe = ModelConfig(**settings["model"]), TrainingRecipe(**settings["recipe"])
    prepared, estimates, root = read_pointer(data), read_pointer(selection), settings["output_uri"]
    launcher = launcher_on(settings.get("node_resources", {}))
    meta = read_pointer(meta_model) if _start(settings) == "meta" else None
    output = run_step(
        final_model.STEP,
        settings,
        {**config.model_dump(), **recipe.model_dump()},
        lambda tracker: final_model.fine_tune_target(
            config, recipe, prepared, estimates, root, tracker, launcher, meta
        ),
        model,
    )
    comparisons = ComparisonConfig(**settings["comparisons"])
    with begin_step(f"{plan.COMPARISONS}-plan", settings, comparisons.model_dump()) as tracker:
        groups = plan.plan_comparisons(
            comparisons, prepared, estimates, output, root, _parallel_runs(settings), meta
        )
        tracker.metrics({"groups": len(groups)})
        return write_groups(groups, root)


def _parallel_runs(settings: Mapping[str, Any]) -> int:
    return ParallelRunsSettings(**settings["groups"]).parallel_runs


def _start(settings: Mapping[str, Any]) -> Start:
    return FineTuningStart(**settings["start"]).start
