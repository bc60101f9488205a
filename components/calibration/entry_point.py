"""Calibration as tasks of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.calibration import step
from gradsift.components.calibration.plan import plan_runs
from gradsift.components.shared.artifacts.step_output import read_pointer
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.true_losses import PlannedRuns
from gradsift.components.shared.tracking.step_run import begin_step, run_step


def plan_calibration(data: Any, meta_model: Any, settings: Mapping[str, Any]) -> list:
    """Choose the subsets to fine-tune on truly; none where `calibrate_runs` is 0."""
    config = CalibrationConfig(**settings["config"])
    if config.runs == 0:
        return []

    model, recipe = ModelConfig(**settings["model"]), TrainingRecipe(**settings["recipe"])
    with begin_step("calibration-plan", settings, config.model_dump()):
        planned = plan_runs(
            config, read_pointer(data), read_pointer(meta_model), model, recipe, settings["output_uri"]
        )
    return [each.model_dump_json() for each in planned]


def calibrate(data: Any, losses: Any, settings: Mapping[str, Any], planned: str) -> None:
    """Fine-tune the base model on a group of subsets and measure the target's validation split."""
    runs = PlannedRuns.model_validate_json(planned)
    launcher = launcher_on(settings.get("node_resources", {}))
    run_step(
        f"calibration-{runs.number}",
        settings,
        runs.inputs,
        lambda tracker: step.calibrate(runs, read_pointer(data), settings["output_uri"], tracker, launcher),
        losses,
    )
