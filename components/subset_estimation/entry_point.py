"""Subset estimation as a task of the pipeline: the run's outputs and settings in, an artifact out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.fine_tuning_runs import read_runs
from gradsift.components.shared.records.run_plans import read_groups
from gradsift.components.shared.tracking.step_run import run_step
from gradsift.components.subset_estimation import step


def estimate_subsets(selection: Any, inputs: str, settings: Mapping[str, Any], calibration: list[str]) -> str:
    """Estimate the target's loss for many subsets of the auxiliary tasks and choose one."""
    config, root = SubsetEstimationConfig(**settings["config"]), settings["output_uri"]
    outputs = read_outputs(inputs, root)
    data, gradients = outputs["data"], outputs["gradients"]
    origin = {"data_digest": data.digest, "model_digest": outputs["meta_model"].digest}
    runs = read_runs(read_groups(calibration, root), root)
    outputs["selection"] = run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda _: step.estimate_subsets(config, gradients, root, origin, data, runs),
        selection,
    )
    return write_outputs(outputs, root)
