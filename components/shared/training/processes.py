"""Training on this machine: starts the DeepSpeed processes of a list of jobs, follows them, says why they failed.

The processes run `worker_process`; this module imports no torch before it starts them.
"""

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradsift.components.shared.errors import (
    BatchMemoryError,
    GpuMemoryError,
    GradsiftError,
    InputError,
    TrainingError,
)
from gradsift.components.shared.process.cores import cores_per_process
from gradsift.components.shared.process.gpus import check_gpus
from gradsift.components.shared.process.lifeline import exit_on_sigterm, lifeline
from gradsift.components.shared.process.pod_environment import given_gpus
from gradsift.components.shared.process.protection import SAFE_PATH
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import TrainingJob

JOBS = "jobs.json"
LOG = "training.log"
EVENTS = "training_events.jsonl"
FAILURE = "failure.json"
KINDS = {kind.__name__: kind for kind in (InputError, GpuMemoryError, BatchMemoryError, TrainingError)}
"""Errors that keep their class on the way out of a training process; others become a TrainingError."""
STOP_SECONDS = 40.0
"""How long processes that are being stopped may take for a last checkpoint; `torchrun` kills them after 30."""

logger = logging.getLogger(__name__)


def launch_processes(
    jobs: Sequence[TrainingJob], uri: str | None, scratch: Path, tracker: StepTracker
) -> None:
    """Train the unfinished jobs in processes of this machine (a `Launcher`).

    Raises:
        InputError: a job's model or data cannot be used, or its recipe asks for several nodes.
        BatchMemoryError: fewer rows at once may fit into the GPUs' memory.
        TrainingError: a process ended without a result.
    """
    nodes = jobs[0].recipe.nodes
    if nodes > 1:
        raise InputError(f"Parameter nodes is {nodes}: expected 1, as this trains on one machine.")
    check_gpus(given_gpus())
    unfinished = [job for job in jobs if not job.finished]
    count = _process_count(unfinished)
    options = ["--standalone", f"--nproc-per-node={count}"]
    run_processes(unfinished, options, count, scratch, uri, lambda event: report(event, tracker))


def run_processes(
    jobs: Sequence[TrainingJob],
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
        BatchMemoryError: fewer rows at once may fit into the GPUs' memory.
        TrainingError: a process ended without a result.
    """
    with atomic_file(scratch / JOBS) as path:
        path.write_text(json.dumps([job.to_json() for job in jobs]))
    for name in (EVENTS, FAILURE):
        (scratch / name).unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "torch.distributed.run", *options]
    command += [
        "-m",
        "gradsift.components.shared.training.worker_process",
        str(scratch),
        *([uri] if uri else []),
    ]
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
    """Pass on what a training process reported."""
    if "warning" in event:
        logger.warning(event["warning"])
        return
    if "values" in event:
        tracker.metrics(event["values"], step=event["step"])
    tracker.progress(event["done"], event["total"], event["unit"])


def failure_of(error: GradsiftError) -> dict[str, Any]:
    """Return an error of a training process as JSON values."""
    kind = next((name for name, kind in KINDS.items() if isinstance(error, kind)), TrainingError.__name__)
    return {"message": str(error), "kind": kind}


def error_of(failure: Mapping[str, Any]) -> GradsiftError:
    """Return the error that `failure_of` described."""
    return KINDS[failure["kind"]](failure["message"])


def _process_count(jobs: Sequence[TrainingJob]) -> int:
    count = jobs[0].recipe.processes or _gpu_count() or 1
    for job in jobs:
        job.recipe.check_batch(count)
    return count


def _environment(processes: int) -> dict[str, str]:
    threads = str(cores_per_process(processes))
    tokenising = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": threads}
    environment = {"OMP_NUM_THREADS": threads, **os.environ, **tokenising}
    if _gpu_count() == 0:
        environment["DS_ACCELERATOR"] = "cpu"
    return environment | lifeline() | SAFE_PATH


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
