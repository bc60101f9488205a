"""Copies of a task that are harmed on purpose, to see that the selection leaves them out."""

from dataclasses import replace
from typing import Literal

import numpy as np

from gradsift.components.data_preparation.task import Task

Corruption = Literal["flip_labels", "shuffle_labels"]


def corrupted_copy(task: Task, name: str, corruption: Corruption, seed: int) -> Task:
    """Return a task called `name` with the train rows of `task` under wrong labels.

    Args:
        task: the task to copy; only its train split is.
        name: the copy's name, which also becomes the prefix of its row ids.
        corruption: `flip_labels` makes the label of every row wrong, `shuffle_labels` deals the labels out
            anew.
        seed: seed of the shuffle.
    """
    train = task.splits["train"]
    labels = [row.label for row in train]
    flip = corruption == "flip_labels"
    wrong = flip_labels(labels, len(task.labels)) if flip else shuffle_labels(labels, seed)
    rows = [row._replace(id=f"{name}-{row.id}", label=label) for row, label in zip(train, wrong, strict=True)]
    return replace(task, name=name, splits={"train": rows}, corruption=corruption)


def flip_labels(labels: list[int], classes: int) -> list[int]:
    """Return each label's successor, (i + 1) mod `classes`: with two classes or more, every one is wrong."""
    return [(label + 1) % classes for label in labels]


def shuffle_labels(labels: list[int], seed: int) -> list[int]:
    """Return the labels in an order drawn at random: their shares stay, what they say of a row is lost."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return [labels[index] for index in order]
