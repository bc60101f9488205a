"""Trains models: what steps call; a `Launcher` decides where the training runs."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import work_uri
from gradsift.components.shared.errors import BatchMemoryError, GpuMemoryError, TrainingError
from gradsift.components.shared.process.outages import wait_out
from gradsift.components.shared.storage.addresses import is_remote
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.progress import TrainingProgress

logger = logging.getLogger(__name__)

Launcher = Callable[[Sequence[TrainingJob], str | None, Path, StepTracker], None]
"""Trains the unfinished of the jobs; gets the address that keeps results, a scratch folder and the tracker."""


def train(
    jobs: list[TrainingJob], scratch: Path, tracker: StepTracker, launch: Launcher = launch_processes
) -> list[dict[str, Any]]:
    """Train every job that is not finished yet and return each one's `training.json`.

    All jobs run one after the other in one launch of `torchrun`, so that start-up is paid once. A job that was
    killed continues from its last checkpoint. Where the run root is on S3, finished jobs and checkpoints are
    kept there, so that this holds on another machine too, and several nodes can train together. Where other
    processes hold the GPUs' memory, it is waited for (see `outages`). Where a process's rows of an optimizer step
    do not fit into its GPU's memory at once, training continues with at most half as many in every process.

    Args:
        jobs: what to train; their recipes must agree on the number of nodes and processes.
        scratch: folder for the job list, the processes' log and their events; its name is that of the jobs'
            place under the run root.
        tracker: gets the losses and the progress.
        launch: where training runs; without it, in processes of this machine.

    Raises:
        InputError: a job's model or data cannot be used.
        GpuMemoryError: other processes hold the GPUs' memory.
        TrainingError: training ended without a result.
    """
    wait_out(GpuMemoryError, lambda: _train_in_parts_that_fit(jobs, scratch, tracker, launch))
    return [json.loads((job.folder / RESULT).read_text()) for job in jobs]


def _train_in_parts_that_fit(
    jobs: list[TrainingJob], scratch: Path, tracker: StepTracker, launch: Launcher
) -> None:
    while True:
        try:
            return _train_unfinished(jobs, scratch, tracker, launch)
        except BatchMemoryError as error:
            logger.warning("%s Training continues with fewer.", error)
            jobs = [replace(job, micro_batches=2 * job.micro_batches) for job in jobs]


def _train_unfinished(jobs: list[TrainingJob], scratch: Path, tracker: StepTracker, launch: Launcher) -> None:
    uri = work_uri(tracker.root_uri, scratch.name) if is_remote(tracker.root_uri) else None
    if _unfinished(jobs, uri):
        scratch.mkdir(parents=True, exist_ok=True)
        launch(jobs, uri, scratch, tracker)
        missing = [job.folder.name for job in _unfinished(jobs, uri)]
        if missing:
            raise TrainingError(f"Training ended without the result of {', '.join(missing)}.")


def _unfinished(jobs: list[TrainingJob], uri: str | None) -> list[TrainingJob]:
    """Return the jobs that are neither finished here nor, then fetched, at the address."""
    unfinished = [job for job in jobs if not job.finished]
    if uri is None:
        return unfinished
    progress = TrainingProgress(uri)
    return [job for job in unfinished if not progress.fetch_result(job.folder)]
