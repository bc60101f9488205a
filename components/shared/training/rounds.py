"""Meta-training in rounds: trainings in one launch, each from the weights of the previous one."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.group_results import LIMIT_FIELD, DualStep, limited_training
from gradsift.components.shared.records.sampling_schedule import EarlierSchedule
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.sampling.sampling_round import SamplingRound
from gradsift.components.shared.training.training import Launcher, train

SUMS = ("optimizer_steps", "examples", "tokens", "padding")


def train_in_rounds(
    whole: TrainingJob,
    sampling: MetaSampling,
    rows: int,
    scratch: Path,
    tracker: StepTracker,
    launch: Launcher,
    earlier: EarlierSchedule | None = None,
) -> dict[str, Any]:
    """Train a model in rounds and return its `training.json`, which is of all rounds together.

    The model's folder also gets `schedule.json`, what the sampler decided (see `SamplingSchedule`).

    Args:
        whole: the model to train, and where it goes.
        sampling: how many rounds, and how they draw.
        rows: train rows of all tasks.
        scratch: folder for the rounds' models, and for all that `train` leaves there.
        tracker: gets the losses and the progress.
        launch: where training runs.
        earlier: what an earlier run's sampler learned, to begin with.

    Raises:
        InputError: the model or the data cannot be used.
        TrainingError: training ended without a result.
    """
    if not whole.finished:
        jobs = plan_rounds(whole, sampling, rows, scratch, earlier)
        result = joined_result(train(jobs, scratch, tracker, launch), whole.recipe)
        shutil.copytree(
            jobs[-1].folder, whole.folder, ignore=shutil.ignore_patterns(RESULT), dirs_exist_ok=True
        )
        with atomic_file(whole.folder / RESULT) as path:
            path.write_text(json.dumps(result, indent=1))
        for job in jobs:
            shutil.rmtree(job.folder)
    content: dict[str, Any] = json.loads((whole.folder / RESULT).read_text())
    return content


def plan_rounds(
    whole: TrainingJob,
    sampling: MetaSampling,
    rows: int,
    folder: Path,
    earlier: EarlierSchedule | None = None,
) -> list[TrainingJob]:
    """Return the rounds of a training, each as long as the others up to one optimizer step.

    Args:
        whole: the training.
        sampling: how many rounds; at most one per optimizer step, and one where the sampler looks at nothing new.
        rows: train rows of all tasks.
        folder: where the rounds' models go.
        earlier: see `train_in_rounds`.
    """
    steps = whole.recipe.optimizer_steps(sampling.counted_rows(rows, len(whole.tasks)))
    count = min(sampling.rounds, steps) if sampling.looks else 1
    ends = [steps * number // count for number in range(count + 1)]
    jobs: list[TrainingJob] = []
    for number in range(count):
        jobs.append(
            replace(
                whole,
                folder=folder / f"round-{number + 1}",
                start=jobs[-1].folder if jobs else whole.start,
                recipe=whole.recipe.model_copy(update={"steps": ends[number + 1] - ends[number]}),
                round=SamplingRound(number, ends[number], sampling, earlier),
            )
        )
    return jobs


def joined_result(results: Sequence[dict[str, Any]], recipe: TrainingRecipe) -> dict[str, Any]:
    """Return one `training.json` for all rounds: counts summed, losses and multipliers as one curve each."""
    losses: list[tuple[int, float]] = []
    multipliers: list[DualStep] = []
    before = 0
    for result in results:
        losses += [(before + step, loss) for step, loss in result["losses"]]
        if limited := limited_training(result):
            # A round begins with the multipliers that the round before ended with.
            own = limited.path[1:] if multipliers else limited.path
            multipliers += [each.model_copy(update={"step": before + each.step}) for each in own]
        before += result["optimizer_steps"]
    joined = {**results[-1], **{name: sum(result[name] for result in results) for name in SUMS}}
    joined |= {"recipe": recipe.model_dump(), "losses": losses}
    if multipliers:
        joined[LIMIT_FIELD] = results[-1][LIMIT_FIELD] | {"path": [each.model_dump() for each in multipliers]}
    return joined
