"""Truly fine-tunes on subsets and measures the target's validation split; the test split is not read.

Runs end up in `<folder>/<key>/`, where the key is a digest of everything that decides the result. So one folder
holds the runs of any studies, and a killed one continues with the runs that are missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from gradsift.components.shared.artifacts.step_output import StepOutput, digest_of, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.true_losses import TrueLosses, TrueRun
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import PREDICTIONS, TrainingJob
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.training import Launcher, train


@dataclass(frozen=True)
class Run:
    """A fine-tuning asked for: auxiliary tasks and a seed."""

    subset: Sequence[str]
    seed: int


def run_truly(
    runs: Sequence[Run],
    data: StepOutput,
    model: ModelConfig,
    recipe: TrainingRecipe,
    folder: Path,
    tracker: StepTracker,
    meta: StepOutput | None = None,
    launch: Launcher = launch_processes,
) -> TrueLosses:
    """Fine-tune on every subset with every seed asked for, and measure each on the target's validation split.

    Each finished run is kept at once: its losses and answers, not its model.

    Args:
        runs: what to fine-tune on; tasks are trained in the suite's order, whatever theirs.
        data: the prepared data.
        model: the pretrained model.
        recipe: the recipe of every run, but for its seed.
        folder: where runs are kept and found again.
        tracker: gets the progress, in steps over all runs.
        meta: theta*, where runs go on from it; None fine-tunes the pretrained model.
        launch: where training runs (see `train`).

    Raises:
        InputError: the model or a task's rows cannot be used.
        TrainingError: training ended without a result.
    """
    prepared = PreparedData(fetch(data))
    start = None if meta is None else fetch(meta)
    base = find_base_model(model.base_model)
    origin = {
        "data": data.digest,
        "start": [base.digest, base.tokenizer_digest] if meta is None else meta.digest,
        "model": model.model_dump() | {"base_model": None},
    }
    jobs = []
    for run in runs:
        tasks = [prepared.target, *(task for task in prepared.auxiliary_tasks if task in run.subset)]
        seeded = recipe.model_copy(update={"seed": run.seed})
        key = digest_of({**origin, "tasks": tasks, "recipe": seeded.model_dump()})[:16]
        jobs.append(
            TrainingJob(folder / key, prepared.folder, tasks, model, seeded, start, predict_only=True)
        )
    results = train(jobs, folder.with_name(f"{folder.name}-processes"), tracker, launch)
    return TrueLosses(
        suite=prepared.suite,
        target=prepared.target,
        recipe={name: value for name, value in recipe.model_dump().items() if name != "seed"},
        start="base" if meta is None else "meta",
        runs=[_true_run(job, result) for job, result in zip(jobs, results, strict=True)],
    )


def _true_run(job: TrainingJob, result: dict[str, Any]) -> TrueRun:
    kept = load_file(job.folder / PREDICTIONS)
    return TrueRun(
        subset=job.tasks[1:],
        seed=job.recipe.seed,
        val_loss=float(kept["loss"].mean(dtype="float64")),
        val_accuracy=float(kept["right"].mean()),
        train_rows=sum(result["rows"].values()),
        optimizer_steps=result["optimizer_steps"],
        seconds=float(kept["seconds"]),
    )
