"""Trains models: starts the DeepSpeed processes for a list of jobs, follows them, and collects their results.

The processes run `training_worker`; this module is what steps call and imports no torch.
"""

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradsift.components.shared.errors import GpuMemoryError, GradsiftError, InputError, TrainingError
from gradsift.components.shared.gpus import check_gpus, given_gpus
from gradsift.components.shared.lifeline import exit_on_sigterm, lifeline
from gradsift.components.shared.outages import wait_out
from gradsift.components.shared.step_output import work_uri
from gradsift.components.shared.storage import atomic_file, is_remote
from gradsift.components.shared.tracking import StepTracker
from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe

JOBS = "jobs.json"
LOG = "training.log"
EVENTS = "training_events.jsonl"
FAILURE = "failure.json"
RESULT = "training.json"
PREDICTIONS = "val.safetensors"
KINDS = {kind.__name__: kind for kind in (InputError, GpuMemoryError, TrainingError)}
"""Errors that keep their class on the way out of a training process; others become a TrainingError."""
STOP_SECONDS = 40.0
"""How long processes that are told to stop may take for a last checkpoint; `torchrun` kills them after 30."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """One model to train.

    Attributes:
        folder: where the trained model goes, with a name of its own among the jobs; `training.json` in it
            says that it is finished.
        data: the prepared data's folder.
        tasks: names of the tasks whose train rows are used, in order.
        model: the pretrained model.
        recipe: how it is trained.
        start: folder of a trained model that training goes on from; None starts from the pretrained model.
        predict_only: whether the model itself is not kept, only what it says of the target's validation rows:
            `loss` [n_rows], `right` [n_rows] (whether its answer is the right one), and the `seconds` that the
            job took, in `val.safetensors`.
    """

    folder: Path
    data: Path
    tasks: list[str]
    model: ModelConfig
    recipe: TrainingRecipe
    start: Path | None = None
    predict_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON values."""
        paths = {"folder": self.folder, "data": self.data, "start": self.start}
        return asdict(self) | {name: None if path is None else str(path) for name, path in paths.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainingJob":
        """Return the job that `to_json` described."""
        return cls(
            folder=Path(values["folder"]),
            data=Path(values["data"]),
            tasks=values["tasks"],
            model=ModelConfig(**values["model"]),
            recipe=TrainingRecipe(**values["recipe"]),
            start=Path(values["start"]) if values["start"] else None,
            predict_only=values["predict_only"],
        )

    @property
    def finished(self) -> bool:
        """Whether the trained model, or what it predicts, is there."""
        return (self.folder / RESULT).exists()


def train(jobs: list[TrainingJob], scratch: Path, tracker: StepTracker) -> list[dict[str, Any]]:
    """Train every job that is not finished yet and return each one's `training.json`.

    All jobs run one after the other in one launch of `torchrun`, so that start-up is paid once. A job that was
    killed continues from its last checkpoint. Where the run root is on S3, finished jobs and checkpoints are
    kept there, so that this holds on another machine too, and several nodes can train together. Where other
    processes hold the GPUs' memory, it is waited for (see `outages`).

    Args:
        jobs: what to train; their recipes must agree on the number of nodes and processes.
        scratch: folder for the job list, the processes' log and their events; its name is that of the jobs'
            place under the run root.
        tracker: gets the losses and the progress.

    Raises:
        InputError: a job's model or data cannot be used.
        GpuMemoryError: other processes hold the GPUs' memory.
        TrainingError: a process ended without a result.
    """
    wait_out(GpuMemoryError, lambda: _train_unfinished(jobs, scratch, tracker))
    return [json.loads((job.folder / RESULT).read_text()) for job in jobs]


def _train_unfinished(jobs: list[TrainingJob], scratch: Path, tracker: StepTracker) -> None:
    uri = work_uri(tracker.root_uri, scratch.name) if is_remote(tracker.root_uri) else None
    unfinished = _unfinished(jobs, uri)
    if not unfinished:
        return
    scratch.mkdir(parents=True, exist_ok=True)
    if jobs[0].recipe.nodes > 1:
        _train_on_nodes(jobs, uri, scratch, tracker)
    else:
        check_gpus(given_gpus())
        count = _process_count(unfinished)
        options = ["--standalone", f"--nproc-per-node={count}"]
        run_processes(unfinished, options, count, scratch, uri, lambda event: report(event, tracker))


def run_processes(
    jobs: list[TrainingJob],
    options: list[str],
    count: int,
    scratch: Path,
    uri: str | None,
    on_event: Callable[[dict[str, Any]], None],
    on_output: Callable[[str], None] = lambda line: None,
) -> None:
    """Run the training processes of this machine until every job is finished.

    Args:
        jobs: what to train.
        options: of `torchrun`: how its processes find each other.
        count: number of processes on this machine.
        scratch: folder for the job list, the processes' log and their events.
        uri: where finished jobs and checkpoints are kept, or None to keep them on this machine alone.
        on_event: gets what the first process of all tells.
        on_output: gets every line that the processes print.

    Raises:
        InputError: a job's model or data cannot be used.
        GpuMemoryError: other processes hold the GPUs' memory.
        TrainingError: a process ended without a result.
    """
    with atomic_file(scratch / JOBS) as path:
        path.write_text(json.dumps([job.to_json() for job in jobs]))
    for name in (EVENTS, FAILURE):
        (scratch / name).unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", *options]
    command += ["-m", "gradsift.components.shared.training_worker", str(scratch), *([uri] if uri else [])]
    with (scratch / LOG).open("a") as log:
        start = log.tell()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(count))
        events, output = _Lines(scratch / EVENTS), _Lines(scratch / LOG, start)
        with _stopped_on_exit(process):
            while True:
                ended = process.poll() is not None
                for line in output.read():
                    on_output(line)
                for line in events.read():
                    on_event(json.loads(line))
                if ended:
                    break
                time.sleep(0.2)
    if process.returncode != 0:
        raise _failure(scratch, process.returncode, start)


def report(event: dict[str, Any], tracker: StepTracker) -> None:
    """Pass on what a training process told."""
    if "warning" in event:
        logger.warning(event["warning"])
        return
    if "values" in event:
        tracker.metrics(event["values"], step=event["step"])
    tracker.progress(event["done"], event["total"], "steps")


def failure_of(error: GradsiftError) -> dict[str, Any]:
    """Return an error of a training process as JSON values."""
    kind = next((name for name, kind in KINDS.items() if isinstance(error, kind)), TrainingError.__name__)
    return {"message": str(error), "kind": kind}


def error_of(failure: Mapping[str, Any]) -> GradsiftError:
    """Return the error that `failure_of` described."""
    return KINDS[failure["kind"]](failure["message"])


def _unfinished(jobs: list[TrainingJob], uri: str | None) -> list[TrainingJob]:
    """Return the jobs that are neither finished here nor, then fetched, at the address."""
    from gradsift.components.shared.training_progress import TrainingProgress

    unfinished = [job for job in jobs if not job.finished]
    if uri is None:
        return unfinished
    progress = TrainingProgress(uri)
    return [job for job in unfinished if not progress.fetch_result(job.folder)]


def _train_on_nodes(jobs: list[TrainingJob], uri: str | None, scratch: Path, tracker: StepTracker) -> None:
    from gradsift.components.shared.train_job_launch import run_train_job

    if uri is None:
        raise InputError(
            f"Parameter nodes is {jobs[0].recipe.nodes}: expected 1, as the run root {tracker.root_uri} is a local "
            "path, which other nodes cannot reach."
        )
    run_train_job(jobs, uri, scratch, tracker)
    missing = [job.folder.name for job in _unfinished(jobs, uri)]
    if missing:
        raise TrainingError(f"The TrainJob completed without the result of {', '.join(missing)} at {uri}.")


def _process_count(jobs: list[TrainingJob]) -> int:
    count = jobs[0].recipe.processes or _gpu_count() or 1
    for job in jobs:
        job.recipe.check_batch(count)
    return count


def _environment(processes: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", **os.environ}
    if _gpu_count() == 0:
        environment["DS_ACCELERATOR"] = "cpu"
    return environment | lifeline()


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()


@contextmanager
def _stopped_on_exit(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End the training processes with this one, be it by an error, Ctrl-C or SIGTERM."""
    try:
        with exit_on_sigterm():
            yield
            process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


class _Lines:
    """The lines that are appended to a file, as they come."""

    def __init__(self, path: Path, position: int = 0) -> None:
        self.path = path
        self.position = position

    def read(self) -> Iterator[str]:
        """Yield the whole lines since the last call."""
        if self.path.exists():
            with self.path.open(errors="replace") as file:
                file.seek(self.position)
                while (line := file.readline()).endswith("\n"):
                    self.position = file.tell()
                    yield line


def _failure(scratch: Path, code: int, log_start: int) -> GradsiftError:
    if (scratch / FAILURE).exists():
        return error_of(json.loads((scratch / FAILURE).read_text()))
    output = (scratch / LOG).read_bytes()[log_start:].decode(errors="replace")
    return TrainingError(
        f"The training processes ended with exit code {code}: {last_error(output)} (log: {scratch / LOG})."
    )


def last_error(output: str) -> str:
    """Return the line of the training processes' output that tells best why they ended."""
    lines = [line for line in output.splitlines() if line.strip()]
    error = r"(\[rank\d+\]: )*[\w.]*(?<!ChildFailed)(Error|Exception|Interrupt)\b"  # not torchrun's own
    errors = [line for line in lines if re.match(error, line)]
    signals = re.findall(r"Signal \d+ \(SIG\w+\) received", output)
    return (errors or signals or lines or ["no output"])[-1]
