"""Copies of a task that are corrupted on purpose, to see that the selection leaves them out."""

from dataclasses import replace
from typing import Literal

import numpy as np

from gradsift.components.shared.data.suites.task import AnyRow, Row, Task, answered_by
from gradsift.components.shared.errors import InputError

Corruption = Literal["flip_labels", "shuffle_labels"]


def corrupted_copy(task: Task, name: str, corruption: Corruption, seed: int) -> Task:
    """Return a task called `name` with the train rows of `task` under wrong labels.

    Args:
        task: the task to copy; only its train split is.
        name: the copy's name, which also becomes the prefix of its row ids.
        corruption: `flip_labels` makes the label of every row wrong, `shuffle_labels` permutes the labels (of a
            generation task the completions, with what belongs to them) at random.
        seed: seed of the shuffle.

    Raises:
        InputError: the labels of a task without labels are to be flipped.
    """
    train = task.splits["train"]
    if corruption == "flip_labels":
        if not task.labels:
            raise InputError(
                f"Task {name!r}, field 'corruption' is 'flip_labels': expected 'shuffle_labels', as "
                f"{task.name!r} is answered in free text."
            )
        labelled = [row for row in train if isinstance(row, Row)]
        wrong = flip_labels([row.label for row in labelled], len(task.labels))
        corrupted: list[AnyRow] = [
            row._replace(label=label) for row, label in zip(labelled, wrong, strict=True)
        ]
    else:
        order = shuffle_labels(list(range(len(train))), seed)
        corrupted = [answered_by(row, train[other]) for row, other in zip(train, order, strict=True)]
    rows = [row._replace(id=f"{name}-{row.id}") for row in corrupted]
    return replace(task, name=name, splits={"train": rows}, corruption=corruption)


def flip_labels(labels: list[int], classes: int) -> list[int]:
    """Return each label's successor, (i + 1) mod `classes`: with two classes or more, every one is wrong."""
    return [(label + 1) % classes for label in labels]


def shuffle_labels(labels: list[int], seed: int) -> list[int]:
    """Return the labels in an order drawn at random: their shares stay, what they say of a row is lost."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return [labels[index] for index in order]
