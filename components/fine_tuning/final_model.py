"""The final model: the fine-tuning run on the chosen tasks, whose weights are kept."""

import shutil
from pathlib import Path
from typing import Any

from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import MANIFEST, StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    CANDIDATES,
    MODELS,
    GroupSettings,
    PlannedRun,
    RunGroup,
    find_model,
    run_inputs,
)
from gradsift.components.shared.records.fine_tuning_runs import STEP as RUNS_STEP
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.training import Launcher

STEP = "target_finetuning"
"""Name that the step is logged by."""


def fine_tune_target(
    settings: GroupSettings,
    recipe: TrainingRecipe,
    data: StepOutput,
    selection: StepOutput,
    root_uri: str,
    tracker: StepTracker,
    launch: Launcher = launch_processes,
) -> StepOutput:
    """Return the model fine-tuned on the selection and the target, from before the choice where it is kept.

    Args:
        settings: what the run has in common with others.
        recipe: how it is trained.
        data: the prepared data.
        selection: the selection.
        root_uri: the run root, a local path or an `s3://` address.
        tracker: gets losses, progress, the data sets used and the model.
        launch: where training runs (see `train`).

    Raises:
        InputError: the base model is not the planned one.
        TrainingError: training ended without a result.
    """
    prepared = PreparedData(fetch(data))
    chosen = Selection.read(fetch(selection, [Selection.FILE]))
    run = PlannedRun.of(prepared, chosen.selected, recipe)
    for task in [prepared.target, *run.subset]:
        tracker.dataset(task, data.uri, data.digest, "training", prepared.task(task).rows["train"])
    _keep_candidate(settings, run, root_uri)
    group = RunGroup(purpose="selected", number=0, settings=settings, runs=[run], weights=MODELS)
    [output] = train_runs(group, data, root_uri, tracker, launch=launch)
    tracker.model(output)
    return output


def _keep_candidate(settings: GroupSettings, run: PlannedRun, root_uri: str) -> None:
    """Copy the weights that a run kept until the choice, if it did, to where final models are."""
    candidate = find_model(settings, run, root_uri, CANDIDATES)
    if candidate is None:
        return

    def work(folder: Path) -> dict[str, Any]:
        shutil.copytree(fetch(candidate), folder, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
        return candidate.metadata

    produce(root_uri, RUNS_STEP, run_inputs(settings, run), work, MODELS)
