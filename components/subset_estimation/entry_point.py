"""Subset estimation as a task of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.shared.artifacts.step_output import read_pointer
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.true_losses import PlannedRuns, gather
from gradsift.components.shared.tracking.step_run import run_step
from gradsift.components.subset_estimation import step


def estimate_subsets(
    data: Any,
    model: Any,
    gradients: Any,
    selection: Any,
    settings: Mapping[str, Any],
    calibration: list[str],
) -> None:
    """Estimate the target's loss for many subsets of the auxiliary tasks and choose one."""
    config, root = SubsetEstimationConfig(**settings["config"]), settings["output_uri"]
    prepared = read_pointer(data)
    origin = {"data_digest": prepared.digest, "model_digest": read_pointer(model).digest}
    losses = gather([PlannedRuns.model_validate_json(each) for each in calibration], root)
    run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda _: step.estimate_subsets(config, read_pointer(gradients), root, origin, prepared, losses),
        selection,
    )
