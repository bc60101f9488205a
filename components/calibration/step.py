"""The step: fine-tune the base model on planned subsets, once a seed, and measure the validation split."""

from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.true_losses import CALIBRATION, PlannedRuns
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.training import Launcher
from gradsift.components.shared.training.true_runs import Run, run_truly


def calibrate(
    planned: PlannedRuns,
    data: StepOutput,
    root_uri: str,
    tracker: StepTracker,
    launch: Launcher = launch_processes,
) -> StepOutput:
    """Do the planned fine-tunings, or find them done.

    Args:
        planned: what to fine-tune on and how.
        data: the prepared data.
        root_uri: the run root, a local path or an `s3://` address.
        tracker: gets the progress.
        launch: where training runs (see `train`).

    Returns:
        The output with `true_losses.json` and each run's log-probabilities; it lies at `planned.uri`.

    Raises:
        InputError: the base model or a task's rows cannot be used.
        TrainingError: training ended without a result.
    """
    inputs = planned.inputs

    def work(folder: Path) -> dict[str, Any]:
        runs = [Run(subset, seed) for subset in inputs["subsets"] for seed in inputs["seeds"]]
        model, recipe = ModelConfig(**inputs["model"]), TrainingRecipe(**inputs["recipe"])
        true = run_truly(runs, data, model, recipe, folder, tracker, launch=launch)
        true.write(folder)
        return {"subsets": len(inputs["subsets"]), "runs": len(runs)}

    return produce(root_uri, CALIBRATION, inputs, work)
