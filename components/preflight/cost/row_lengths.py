"""How many tokens the rows of a run have, on average."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from gradsift.components.shared.data.prepared_data import PreparedData, Split, TaskIndex
from gradsift.components.shared.models.task_model import Rows, TaskModel, token_count

READ_ROWS = 1000
"""Rows that are tokenised at a time."""
HELD_OUT: tuple[Split, ...] = ("val", "test")


@dataclass(frozen=True)
class RowLengths:
    """Mean numbers of tokens of rows, prompt and answer together, as the model reads them.

    Attributes:
        train: of each task's train rows.
        held_out: of the target's validation and test rows.
    """

    train: Mapping[str, float]
    held_out: Mapping[Split, float]

    @classmethod
    def constant(cls, data: TaskIndex, tokens: float) -> "RowLengths":
        """Return the same length for all rows."""
        return cls({task.name: tokens for task in data.tasks}, dict.fromkeys(HELD_OUT, tokens))

    @classmethod
    def measured(cls, data: PreparedData, outlined: TaskModel) -> "RowLengths":
        """Return the lengths of prepared rows, as the model encodes them."""

        def mean(task: str, split: Split) -> float:
            return mean_length(data.split(task, split).iter(READ_ROWS), task, outlined)

        return cls(
            {task.name: mean(task.name, "train") for task in data.tasks},
            {split: mean(data.target, split) for split in HELD_OUT},
        )


def mean_length(batches: Iterable[Rows], task: str, outlined: TaskModel) -> float:
    """Return the mean number of tokens of a task's rows, as the model encodes them."""
    return fmean(token_count(example) for rows in batches for example in outlined.encode(rows, task))
