"""Simple choices to compare the selection with, each a function from the same store to a subset.

Gradient similarity compares a task's mean train gradient with the target's mean validation gradient: where
they point the same way, a step on the task lowers the target's loss. It takes as many tasks as the selection
did.
"""

from collections.abc import Callable

import numpy as np

from gradsift.components.subset_estimation.margins import FloatArray
from gradsift.components.subset_estimation.selection import highest, random_subsets
from gradsift.components.subset_estimation.task_statistics import BoolArray, TaskStatistics

Baseline = Callable[[TaskStatistics, BoolArray, np.random.Generator], BoolArray]


def all_tasks(statistics: TaskStatistics, selected: BoolArray, generator: np.random.Generator) -> BoolArray:
    """Return all auxiliary tasks."""
    return np.ones_like(selected)


def target_only(statistics: TaskStatistics, selected: BoolArray, generator: np.random.Generator) -> BoolArray:
    """Return no auxiliary task."""
    return np.zeros_like(selected)


def random_tasks(
    statistics: TaskStatistics, selected: BoolArray, generator: np.random.Generator
) -> BoolArray:
    """Return a random subset of the selection's size, another one than it where there is another."""
    count, size = len(selected), int(selected.sum())
    while True:
        drawn: BoolArray = random_subsets(count, size, 1, generator)[0]
        if size in {0, count} or (drawn != selected).any():
            return drawn


def gradient_cosine(
    statistics: TaskStatistics, selected: BoolArray, generator: np.random.Generator
) -> BoolArray:
    """Return the tasks with the largest cosine of mean gradients with the target's; 0 for a zero gradient."""
    means, target = _task_means(statistics), _target_mean(statistics)
    norms = np.linalg.norm(means, axis=1) * np.linalg.norm(target)
    products = means @ target
    cosines = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return highest(cosines, int(selected.sum()))


def gradient_dot(
    statistics: TaskStatistics, selected: BoolArray, generator: np.random.Generator
) -> BoolArray:
    """Return the tasks with the largest inner product of mean gradients with the target's."""
    return highest(_task_means(statistics) @ _target_mean(statistics), int(selected.sum()))


BASELINES: dict[str, Baseline] = {
    "all": all_tasks,
    "target_only": target_only,
    "random": random_tasks,
    "gradient_cosine": gradient_cosine,
    "gradient_dot": gradient_dot,
}


def _task_means(statistics: TaskStatistics) -> FloatArray:
    return statistics.gradient[:-1] / statistics.rows[:-1, None]


def _target_mean(statistics: TaskStatistics) -> FloatArray:
    mean: FloatArray = statistics.validation_gradient.mean(axis=0)
    return mean
