"""What a fine-tuning run finds at the weights that it starts from, as arrays: rows, their sums, validation rows.

Every row has one margin whose softplus is its loss: that of the whole answer where a class or a label's name is the
answer, over the answer's tokens; where free text is the answer, that of a token whose probability is the geometric
mean over the answer. Its gradient is taken at theta*, whatever the weights that runs start from, or is a blend with
that at the base weights. Features are that gradient and one number more, the margin's change along the unit vector
of meta-training's whole step.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.linear_model.margins import FloatArray, StoredArray
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, block_columns


@dataclass(frozen=True)
class StartRows:
    """A random sample of the train rows of each task, all of them where there are few.

    Attributes:
        starts: [n + 2], index of the first row of each task, and the number of rows.
        margin: [N], margins at the weights that runs start from.
        base_margin: [N], margins at the base weights.
        meta_margin: [N], margins at theta*.
        feature: [N, d + 1], how the margins change with the weights.
        positions: [N], the tokens of each answer, which its loss is a mean over.
    """

    starts: npt.NDArray[np.intp]
    margin: StoredArray
    base_margin: StoredArray
    meta_margin: StoredArray
    feature: StoredArray
    positions: StoredArray

    def of_tasks(self, wanted: BoolArray) -> "StartRows":
        """Return the rows of these tasks [n + 1] alone; others keep none."""
        counts = np.diff(self.starts)
        own = np.repeat(wanted, counts)
        if own.all():
            return self
        return StartRows(
            np.cumsum([0, *np.where(wanted, counts, 0)]),
            self.margin[own],
            self.base_margin[own],
            self.meta_margin[own],
            self.feature[own],
            self.positions[own],
        )

    def shares(self, task_shares: FloatArray) -> FloatArray:
        """Return the weight [m, N] of each row in the gradient, for shares [m, n + 1] of the tasks."""
        counts = np.diff(self.starts)
        per_row = task_shares / np.maximum(counts, 1)
        return np.repeat(per_row, counts, axis=1) / self.positions


@dataclass(frozen=True)
class RunStart:
    """Train rows, their sums and the validation rows, in the order of the tasks of `TaskStatistics`.

    Attributes:
        blocks: number of independent projection blocks of equal width in the first d columns.
        counts: [n + 1], train rows of each task.
        rows: a sample of them.
        gradient: [n + 1, d + 1], means over a task's rows of the loss gradients at the start.
        curvature: [n + 1, d + 1, d + 1], means of the losses' second derivatives there.
        validation_margin: [V], margins of the target's validation rows.
        validation_feature: [V, d + 1], how they change with the weights.
        validation_positions: [V], the tokens of each answer.
        alpha: share of theta* in the gradients; the rest is that of the base weights.
    """

    blocks: int
    counts: FloatArray
    rows: StartRows
    gradient: FloatArray
    curvature: StoredArray
    validation_margin: FloatArray
    validation_feature: FloatArray
    validation_positions: FloatArray
    alpha: float = 1.0

    def block(self, index: int) -> "RunStart":
        """Return the start under one projection block alone (see `TaskStatistics.block`).

        Inner products of a block's columns, the last one among them, are those of all over the number of blocks.
        """
        own = block_columns(self.gradient.shape[1] - 1, self.blocks, index)
        scale = 1 / np.sqrt(self.blocks)

        def columns(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.concatenate([array[..., own], array[..., -1:] * array.dtype.type(scale)], axis=-1)

        return replace(
            self,
            blocks=1,
            rows=replace(self.rows, feature=columns(self.rows.feature)),
            gradient=columns(self.gradient),
            curvature=columns(columns(self.curvature).swapaxes(1, 2)),
            validation_feature=columns(self.validation_feature),
        )
