"""What training processes report to their step: lines in the events file."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.training.job import TrainingJob


class EventCallback(TrainerCallback):
    """Appends losses and progress to the events file, counted over all jobs of the launch.

    Attributes:
        path: the file.
        steps_before: optimizer steps of the jobs before.
        total: optimizer steps of all jobs.
        curve_start: optimizer steps before this job in the curve of its losses; None leaves its losses out.
    """

    def __init__(self, path: Path, steps_before: int, total: int, curve_start: int | None) -> None:
        self.path = path
        self.steps_before = steps_before
        self.total = total
        self.curve_start = curve_start

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write one line; losses only of the first job, or of all rounds of one training: they make one curve."""
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            control.should_training_stop = True
        if not state.is_world_process_zero:
            return
        done = self.steps_before + state.global_step
        event: dict[str, Any] = {"done": done, "total": self.total, "unit": "steps"}
        if self.curve_start is not None and logs and "loss" in logs:
            event |= {
                "step": self.curve_start + state.global_step,
                "values": {"train_loss": logs["loss"], "learning_rate": logs["learning_rate"]},
            }
        _append(self.path, event)


class WrittenRows:
    """Counts the answers that models have written over all jobs of the launch, in the events file."""

    def __init__(self, path: Path, jobs: Sequence[TrainingJob]) -> None:
        self.path = path
        self.done = 0
        self.total = sum(_test_rows(job) for job in jobs if "test" in job.measured)

    def __call__(self, rows: int) -> None:
        """Count rows; all processes write the same ones, the first one counts them."""
        self.done += rows
        if is_first_process():
            _append(self.path, {"done": self.done, "total": self.total, "unit": "rows written"})


class EventHandler(logging.Handler):
    """Passes on to the step's log what this process logs, for its own output is kept in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        _append(self.path, {"warning": record.getMessage()})


def is_first_process() -> bool:
    """Return whether this is the first training process of all."""
    return os.environ["RANK"] == "0"


def _test_rows(job: TrainingJob) -> int:
    data = PreparedData(job.data)
    return data.task(data.target).rows["test"]


def _append(path: Path, event: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(event) + "\n")
