"""The step: train the runs of a group that nobody has trained yet, and publish what each of them measured."""

import json
import shutil
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import (
    StepOutput,
    digest_of,
    fetch,
    produce,
    work_folder,
)
from gradsift.components.shared.data.prepared_data import PreparedData, Split
from gradsift.components.shared.models.base_model import BaseModel, find_base_model, find_known_base_model
from gradsift.components.shared.models.model_kind import kind_of
from gradsift.components.shared.models.untrained_model import answers_untrained
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.records.fine_tuning_runs import (
    MODELS,
    RUNS,
    STEP,
    FineTuningRun,
    GroupSettings,
    PlannedRun,
    RunGroup,
    find_model,
    find_record,
    run_inputs,
    run_key,
    run_limit,
    run_recipe,
)
from gradsift.components.shared.records.run_answers import HeldOutAnswers, ValidationAnswers
from gradsift.components.shared.storage.addresses import is_remote, join_uri
from gradsift.components.shared.storage.storage import delete_below, open_storage
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.trained_model import model_metadata
from gradsift.components.shared.training.training import Launcher, train


def train_runs(
    group: RunGroup,
    data: StepOutput,
    root_uri: str,
    tracker: StepTracker,
    launch: Launcher = launch_processes,
) -> list[StepOutput]:
    """Train the runs of a group that are not finished yet, in one launch, and publish each run's record.

    A call that was killed goes on with the run that it was at. Where the weights of every run are to be kept, one
    that was trained without keeping them is trained again; its record stays.

    Args:
        group: the runs.
        data: the prepared data.
        root_uri: the run root, a local path or an `s3://` address.
        tracker: gets the progress.
        launch: where training runs (see `train`).

    Returns:
        Each run's model where the group keeps those of all runs, else its record.

    Raises:
        InputError: the base model is not the planned one, or a task's rows cannot be used.
        TrainingError: training ended without a result.
    """
    find = find_model if group.weights == MODELS else find_record
    outputs = [find(group.settings, run, root_uri) for run in group.runs]
    missing = [run for run, output in zip(group.runs, outputs, strict=True) if output is None]
    published: list[StepOutput] = []
    if missing:
        base = _planned_base(group)
        jobs = [_job(group, run, data, root_uri) for run in missing]
        keys = [run_key(group.settings, run) for run in group.runs]
        scratch = work_folder(root_uri, f"{STEP}-{digest_of(keys)[:16]}-processes")
        train(jobs, scratch, tracker, launch)
        published = [_publish(group, *each, base, root_uri) for each in zip(missing, jobs, strict=True)]
        if is_remote(root_uri):
            delete_below(open_storage(join_uri(root_uri, "work")), scratch.name)
    fresh = iter(published)
    return [next(fresh) if output is None else output for output in outputs]


def _planned_base(group: RunGroup) -> BaseModel:
    settings = group.settings
    name = settings.model["base_model"]
    return (
        find_known_base_model(name, *settings.weights) if settings.start == "base" else find_base_model(name)
    )


def _job(group: RunGroup, run: PlannedRun, data: StepOutput, root_uri: str) -> TrainingJob:
    """Return the job of a run, which fills the folder that `produce` publishes."""
    settings = group.settings
    place = group.weights or RUNS
    measured: tuple[Split, ...] = ("val", "test") if settings.test_answers else ("val",)
    return TrainingJob(
        folder=work_folder(root_uri, f"{place}-{run_key(settings, run)}"),
        data=fetch(data),
        tasks=[settings.target, *run.subset] if run.steps else [],
        model=ModelConfig(**settings.model),
        recipe=run_recipe(settings, run),
        start=_start(settings),
        keep_model=bool(group.weights),
        measured=measured,
        fairness=run_limit(settings, run),
    )


def _start(settings: GroupSettings) -> Path | None:
    """Return the folder of theta*, where runs start from it."""
    if settings.meta_uri is None:
        return None
    [digest] = settings.weights
    return fetch(StepOutput(settings.meta_uri, digest, {}))


def _publish(
    group: RunGroup, run: PlannedRun, job: TrainingJob, base: BaseModel, root_uri: str
) -> StepOutput:
    """Publish what a finished job left in its folder: the record first, then the weights if they are kept."""
    inputs = run_inputs(group.settings, run)
    result = json.loads((job.folder / RESULT).read_text())

    def record(folder: Path) -> dict[str, Any]:
        return _write_record(folder, group, run, job, result)

    def model(folder: Path) -> dict[str, Any]:
        for name in (ValidationAnswers.FILE, HeldOutAnswers.FILE):
            (folder / name).unlink(missing_ok=True)
        metadata = model_metadata(PreparedData(job.data), job.model, base, result)
        return metadata | {"answers_untrained": answers_untrained(job.model, kind_of(base.folder, base.name))}

    output = produce(root_uri, STEP, inputs, record, RUNS)
    if not group.weights:
        return output
    kept = produce(root_uri, STEP, inputs, model, group.weights)
    return kept if group.weights == MODELS else output


def _write_record(
    folder: Path, group: RunGroup, run: PlannedRun, job: TrainingJob, result: dict[str, Any]
) -> dict[str, Any]:
    answers, seconds = ValidationAnswers.read(job.folder)
    if folder != job.folder:
        for name in (RESULT, ValidationAnswers.FILE, HeldOutAnswers.FILE):
            shutil.copyfile(job.folder / name, folder / name)
    found = FineTuningRun(
        subset=run.subset,
        seed=run.seed,
        start=group.settings.start,
        val_loss=float(answers.loss.mean(dtype="float64")),
        val_accuracy=float(answers.right.mean()),
        train_rows=sum(result["rows"].values()),
        optimizer_steps=result["optimizer_steps"],
        tokens=result["tokens"],
        padding=result["padding"],
        seconds=seconds,
    )
    found.write(folder)
    return {"val_loss": found.val_loss, "val_accuracy": found.val_accuracy, "train_rows": found.train_rows}
