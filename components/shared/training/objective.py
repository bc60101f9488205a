"""What a training minimises: a function of the model's answers and of extra columns of the train rows."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.task_model import Example, TaskModel

if TYPE_CHECKING:
    from datasets import Dataset

STATE = "objective.json"
"""The file of a checkpoint with what an objective has learned so far."""


class Objective(Protocol):
    """What a training minimises over the rows of a step, as a mean over micro-batches and processes.

    Attributes:
        columns: numbers of each train row that the loss takes beside the model's answers, [n_rows] by their names.
    """

    columns: Mapping[str, npt.NDArray[Any]]

    def loss(self, mean_loss: Tensor, answers: Answers, side: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of a micro-batch, a scalar.

        Args:
            mean_loss: mean of its rows' losses.
            answers: what the model says of its n rows.
            side: the rows' `columns`, [n] by their names.
        """

    def after_step(self, step: int, noted: bool) -> None:
        """Learn from the micro-batches of an optimizer step.

        Args:
            step: the number of the step, from 1 on.
            noted: whether the loss curve has a point at this step.
        """

    def state(self) -> dict[str, Any]:
        """Return what it has learned, JSON values that `restore` takes; nothing where it learns nothing."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned."""

    def result(self) -> dict[str, Any]:
        """Return what `training.json` says of it, by the field's name."""


class MeanLoss:
    """The mean loss of the rows."""

    def __init__(self) -> None:
        self.columns: Mapping[str, npt.NDArray[Any]] = {}

    def loss(self, mean_loss: Tensor, answers: Answers, side: Mapping[str, Tensor]) -> Tensor:
        """Return the mean loss itself."""
        return mean_loss

    def after_step(self, step: int, noted: bool) -> None:
        """Learn nothing."""

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take nothing."""

    def result(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


def with_columns(examples: "Dataset", objective: Objective) -> "Dataset":
    """Return the train rows with the objective's columns."""
    for name, values in objective.columns.items():
        examples = examples.add_column(name, values)
    return examples


def collator(model: TaskModel, objective: Objective) -> Callable[[Sequence[Example]], dict[str, Tensor]]:
    """Return what makes a batch of rows: the model's tensors, and the objective's columns [n] beside them."""
    names = tuple(objective.columns)
    if not names:
        return model.collate

    def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
        inputs = [{name: value for name, value in each.items() if name not in names} for each in examples]
        side = {name: torch.from_numpy(np.array([each[name] for each in examples])) for name in names}
        return {**model.collate(inputs), **side}

    return collate


def restore(objective: Objective, checkpoint: str | None) -> None:
    """Restore what an objective had learned at a checkpoint, if there is one."""
    if checkpoint is not None and (path := Path(checkpoint) / STATE).exists():
        objective.restore(json.loads(path.read_text()))


class ObjectiveCallback(TrainerCallback):
    """Lets an objective learn after every optimizer step, and keeps what it has learned in every checkpoint."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Let it learn; this comes before a checkpoint of the step is made."""
        step = state.global_step
        self.objective.after_step(step, step % int(args.logging_steps) == 0 or step == state.max_steps)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write what it has learned into every machine's part of the checkpoint."""
        if args.local_process_index == 0 and (learned := self.objective.state()):
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            (folder / STATE).write_text(json.dumps(learned))
