"""Trains models: starts the DeepSpeed processes for a list of jobs, follows them, and collects their results.

The processes run `training_worker`; this module is what steps call and imports no torch.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradsift.components.shared.errors import GradsiftError, InputError, TrainingError
from gradsift.components.shared.lifeline import lifeline
from gradsift.components.shared.storage import atomic_file
from gradsift.components.shared.tracking import StepTracker
from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe

JOBS = "jobs.json"
LOG = "training.log"
EVENTS = "training_events.jsonl"
FAILURE = "failure.json"
RESULT = "training.json"
PREDICTIONS = "val.safetensors"


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
    killed continues from its last checkpoint.

    Args:
        jobs: what to train; their recipes must agree on the number of processes.
        scratch: folder for the job list, the processes' log and their events.
        tracker: gets the losses and the progress.

    Raises:
        InputError: a job's model or data cannot be used.
        TrainingError: a process ended without a result.
    """
    unfinished = [job for job in jobs if not job.finished]
    if unfinished:
        scratch.mkdir(parents=True, exist_ok=True)
        with atomic_file(scratch / JOBS) as path:
            path.write_text(json.dumps([job.to_json() for job in unfinished]))
        _launch(_process_count(unfinished), scratch, tracker)
    return [json.loads((job.folder / RESULT).read_text()) for job in jobs]


def _process_count(jobs: list[TrainingJob]) -> int:
    count = jobs[0].recipe.processes or _gpu_count() or 1
    for job in jobs:
        if job.recipe.batch_size % count:
            raise InputError(
                f"Parameter batch_size is {job.recipe.batch_size}: expected a multiple of the {count} processes."
            )
    return count


def _launch(count: int, scratch: Path, tracker: StepTracker) -> None:
    for name in (EVENTS, FAILURE):
        (scratch / name).unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "gradsift.components.shared.training_worker", str(scratch)]
    with (scratch / LOG).open("a") as log:
        start = log.tell()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(count))
        with _stopped_on_exit(process):
            for event in _follow(scratch / EVENTS, process):
                _report(event, tracker)
    if process.returncode != 0:
        raise _failure(scratch, process.returncode, start)


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

    def stop(signum: int, _: object) -> None:
        raise SystemExit(128 + signum)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
        process.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _follow(path: Path, process: "subprocess.Popen[bytes]") -> Iterator[dict[str, Any]]:
    position = 0
    while True:
        ended = process.poll() is not None
        if path.exists():
            with path.open() as file:
                file.seek(position)
                while (line := file.readline()).endswith("\n"):
                    position = file.tell()
                    yield json.loads(line)
        if ended:
            return
        time.sleep(0.2)


def _report(event: dict[str, Any], tracker: StepTracker) -> None:
    if "values" in event:
        tracker.metrics(event["values"], step=event["step"])
    tracker.progress(event["done"], event["total"], "steps")


def _failure(scratch: Path, code: int, log_start: int) -> GradsiftError:
    if (scratch / FAILURE).exists():
        failure = json.loads((scratch / FAILURE).read_text())
        return (InputError if failure["input_error"] else TrainingError)(failure["message"])
    output = (scratch / LOG).read_bytes()[log_start:].decode(errors="replace")
    lines = [line for line in output.splitlines() if line.strip()]
    error = r"(\[rank\d+\]: )?[\w.]*(?<!ChildFailed)(Error|Exception|Interrupt)\b"  # not torchrun's own
    errors = [line for line in lines if re.match(error, line)]
    signals = re.findall(r"Signal \d+ \(SIG\w+\) received", output)
    last = (errors or signals or lines or ["no output"])[-1]
    return TrainingError(
        f"The training processes ended with exit code {code}: {last} (log: {scratch / LOG})."
    )
