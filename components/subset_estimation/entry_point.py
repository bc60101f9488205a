"""Subset estimation as tasks of the pipeline: the run's outputs and settings in, a plan and an artifact out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.confirmation import ConfirmationConfig
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import ParallelRunsSettings
from gradsift.components.shared.records.fine_tuning_runs import read_runs
from gradsift.components.shared.records.planning import CALIBRATION
from gradsift.components.shared.records.run_plans import read_groups, write_groups
from gradsift.components.shared.tracking.step_run import begin_step, run_step
from gradsift.components.subset_estimation import plan, step


def plan_calibration(inputs: str, settings: Mapping[str, Any]) -> list[str]:
    """Plan the first round of runs; none where the settings ask for none before the choice."""
    calibration = CalibrationConfig(**settings["calibration"])
    confirmation = ConfirmationConfig(**settings["confirmation"])
    if not calibration.runs and not confirmation.runs:
        return []

    root, outputs = settings["output_uri"], read_outputs(inputs, settings["output_uri"])
    params = {**calibration.model_dump(), "confirm_runs": confirmation.runs}
    with begin_step(f"{CALIBRATION}-plan", settings, params) as tracker:
        groups = plan.plan_first_round(
            SubsetEstimationConfig(**settings["config"]),
            calibration,
            confirmation,
            outputs["data"],
            outputs["meta_model"],
            outputs["gradients"],
            ModelConfig(**settings["model"]).resolved(outputs["data"].metadata["max_length"]),
            root,
            ParallelRunsSettings(**settings["groups"]).parallel_runs,
            _fairness(settings),
        )
        tracker.metrics({"groups": len(groups)})
        return write_groups(groups, root)


def estimate_subsets(selection: Any, inputs: str, settings: Mapping[str, Any], calibration: list[str]) -> str:
    """Estimate the target's loss for many subsets of the auxiliary tasks and choose one."""
    config, root = SubsetEstimationConfig(**settings["config"]), settings["output_uri"]
    confirmation = ConfirmationConfig(**settings["confirmation"])
    outputs = read_outputs(inputs, root)
    data, gradients = outputs["data"], outputs["gradients"]
    origin = {"data_digest": data.digest, "model_digest": outputs["meta_model"].digest}
    runs = read_runs(read_groups(calibration, root), root)
    second_round = confirmation.rounds[1] if confirmation.runs else None
    fairness = _fairness(settings)
    outputs["selection"] = run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda _: step.estimate_subsets(config, gradients, root, origin, data, runs, second_round, fairness),
        selection,
    )
    return write_outputs(outputs, root)


def _fairness(settings: Mapping[str, Any]) -> FairnessConfig | None:
    return FairnessConfig(**settings["fairness"]) if "fairness" in settings else None
