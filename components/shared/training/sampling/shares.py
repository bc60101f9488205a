"""The shares of a round: decided and written before its first step, and read back when the round is resumed."""

import gc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.records.sampling_schedule import (
    RoundShares,
    SamplingSchedule,
    measured_cosines,
)
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.progress import TrainingProgress
from gradsift.components.shared.training.sampling.derts import derts
from gradsift.components.shared.training.sampling.l2s import l2s
from gradsift.components.shared.training.sampling.recency import recency
from gradsift.components.shared.training.sampling.sampling_round import SamplingRound
from gradsift.components.shared.training.sampling.task_probe import probe_tasks

if TYPE_CHECKING:
    from datasets import Dataset


def round_shares(
    job: TrainingJob,
    own: SamplingRound,
    model: TaskModel,
    examples: "Dataset",
    device: torch.device,
    progress: TrainingProgress | None,
) -> dict[str, float]:
    """Return the shares of the rows that a round draws, by task; every process takes part and gets the same.

    The job's folder has them in its `schedule.json` before the first step, after those of the rounds before.

    Args:
        job: the round's training.
        own: the round.
        model: the model at the round's start, whole in every process.
        examples: the tokenised train rows of the job's tasks.
        device: where the model computes.
        progress: keeps the file where machines may be lost; None where this machine's disk is enough.
    """
    first = torch.distributed.get_rank() == 0
    shares = torch.full((len(job.tasks),), torch.nan, dtype=torch.float64, device=device)
    if first and _is_written(job.folder, progress):
        shares.copy_(_values(SamplingSchedule.read(job.folder).rounds[-1], job.tasks))
    torch.distributed.broadcast(shares, 0)
    if shares.isnan().any():
        decided = _decide(job, own, model, examples, device)
        gc.collect()  # the probe's copy of the model
        if first:
            _write(job, own, decided, progress)
        shares.copy_(_values(decided, job.tasks))
        torch.distributed.broadcast(shares, 0)
    return dict(zip(job.tasks, shares.tolist(), strict=True))


def fetch_start(start: Path, progress: TrainingProgress) -> None:
    """Put the previous round's model on every machine; only the first process has saved it."""
    if os.environ["LOCAL_RANK"] == "0" and not (start / RESULT).exists():
        progress.fetch_result(start)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _decide(
    job: TrainingJob, own: SamplingRound, model: TaskModel, examples: "Dataset", device: torch.device
) -> RoundShares:
    data, sampling = PreparedData(job.data), own.sampling
    rows = {task: data.task(task).rows["train"] for task in job.tasks}
    if not sampling.looks:
        return recency(rows, _periods(data, job.tasks))
    probe = probe_tasks(
        model,
        examples,
        rows,
        {task: data.split(task, "train") if data.task(task).labels else None for task in job.tasks},
        sampling.probe_rows,
        [job.recipe.seed, own.number],
        job.recipe.precision,
        device,
    )
    if sampling.sampler == "derts":
        return derts(probe, data.target, sampling)
    return l2s(probe, rows, data.target, measured_cosines(own.earlier, _before(job, own)))


def _periods(data: PreparedData, tasks: list[str]) -> dict[str, str]:
    periods = {task: data.task(task).period for task in tasks}
    return {task: period for task, period in periods.items() if period is not None}


def _before(job: TrainingJob, own: SamplingRound) -> list[RoundShares]:
    """Return what was decided before the earlier rounds."""
    if own.number == 0 or job.start is None:
        return []
    return SamplingSchedule.read(job.start).rounds


def _write(
    job: TrainingJob, own: SamplingRound, decided: RoundShares, progress: TrainingProgress | None
) -> None:
    data = PreparedData(job.data)
    job.folder.mkdir(parents=True, exist_ok=True)
    SamplingSchedule(
        sampler=own.sampling.sampler,
        target=data.target,
        rounds=[*_before(job, own), decided],
        periods=_periods(data, job.tasks),
        earlier=own.earlier,
    ).write(job.folder)
    if progress is not None:
        progress.save_file(job.folder / SamplingSchedule.FILE)


def _is_written(folder: Path, progress: TrainingProgress | None) -> bool:
    file = folder / SamplingSchedule.FILE
    return file.exists() or (progress is not None and progress.fetch_file(file))


def _values(decided: RoundShares, tasks: list[str]) -> torch.Tensor:
    shares: Mapping[str, float] = decided.shares
    return torch.tensor([shares[task] for task in tasks], dtype=torch.float64)
