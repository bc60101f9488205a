"""The train rows that each of a block of subsets holds, and their margins at the subset's own weights.

Rows are visited task by task, together for all subsets of the block that hold the task. They are multiplied in
the precision of the store; sums over tasks are in float64.
"""

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.linear_model.margins import (
    FloatArray,
    StoredArray,
    error_probability,
)
from gradsift.components.subset_estimation.statistics.task_statistics import TrainRows


class HeldRows:
    """Margins of rows along the search for the weights of a block of m subsets."""

    def __init__(self, memberships: FloatArray, train: TrainRows, margins: list[StoredArray]) -> None:
        """Start with the same margins for all of the subsets [m, n + 1], one array a task."""
        self._shape = len(memberships), train.feature.shape[1]
        self._tasks = [
            _HeldTask(np.flatnonzero(weights), weights[weights > 0], feature, at_start)
            for weights, (_, feature), at_start in zip(memberships.T, train.by_task(), margins, strict=True)
            if weights.any()
        ]

    def look_along(self, direction: FloatArray) -> None:
        """Compute how margins change along a direction [m, d] of each subset's weights."""
        for task in self._tasks:
            task.look_along(direction)

    def slopes(self, step: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return slope [m] and curvature [m] of the summed loss along the direction, after a step [m] in it."""
        slope, curvature = np.zeros(self._shape[0]), np.zeros(self._shape[0])
        for task in self._tasks:
            task.add_slopes(step, slope, curvature)
        return slope, curvature

    def move(self, step: FloatArray) -> None:
        """Take a step [m] along the direction."""
        for task in self._tasks:
            task.margin += task.steps(step)

    def gradient(self) -> FloatArray:
        """Return the gradient [m, d] of the summed loss."""
        gradient = np.zeros(self._shape)
        for task in self._tasks:
            gradient[task.holders] -= task.weight * (error_probability(task.margin) @ task.feature)
        return gradient


class _HeldTask:
    """One task's rows for the k subsets that hold it, by index `holders`, with a weight [k, 1] of its loss."""

    def __init__(
        self, holders: npt.NDArray[np.intp], weight: FloatArray, feature: StoredArray, margin: StoredArray
    ) -> None:
        self.holders, self.weight, self.feature = holders, weight[:, None], feature
        self.margin = np.tile(margin, (len(holders), 1))
        self.change = np.zeros_like(self.margin)

    def look_along(self, direction: FloatArray) -> None:
        np.matmul(direction[self.holders].astype(self.feature.dtype), self.feature.T, out=self.change)

    def steps(self, step: FloatArray) -> StoredArray:
        return step[self.holders, None].astype(self.change.dtype) * self.change

    def add_slopes(self, step: FloatArray, slope: FloatArray, curvature: FloatArray) -> None:
        wrong = error_probability(self.margin + self.steps(step))
        pull = wrong * self.change
        slope[self.holders] -= self.weight[:, 0] * pull.sum(axis=1)
        pull *= self.change
        curvature[self.holders] += self.weight[:, 0] * np.vecdot(pull, 1 - wrong)
