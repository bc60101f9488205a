"""Subset estimation as a task of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.shared.artifacts.step_output import read_pointer
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.fine_tuning_runs import read_runs
from gradsift.components.shared.records.run_plans import read_groups
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
    runs = read_runs(read_groups(calibration, root), root)
    run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda _: step.estimate_subsets(config, read_pointer(gradients), root, origin, prepared, runs),
        selection,
    )
