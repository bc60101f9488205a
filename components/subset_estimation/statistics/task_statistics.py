"""What the estimators need of a gradient store, as arrays in memory: sums a task, rows of train and validation."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.linear_model.margins import FloatArray, StoredArray

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class SecondOrderRows:
    """What the quadratic form needs of the validation rows beside their gradients.

    Attributes:
        loss: [V], losses at theta*.
        probe: [V, R, d], loss gradients under sampled labels.
    """

    loss: FloatArray
    probe: FloatArray


@dataclass(frozen=True)
class TaskStatistics:
    """Sums over the train rows of n auxiliary tasks and of the target, which comes last, and validation rows.

    Attributes:
        target: name of the target task.
        tasks: names of the n auxiliary tasks, in the store's order.
        blocks: number of independent projection blocks of equal width in the d columns.
        rows: [n + 1], train rows.
        gradient: [n + 1, d], sums of the loss gradients.
        curvature: [n + 1, d, d], Gauss-Newton matrices: sums over rows, means over probes, of probe probe^T.
        squared_step_norm: |theta* - theta0|^2, with theta0 the weights that meta-training started from.
        validation_margin: [V], margins of the target's validation rows, each of its whole answer.
        validation_base_margins: [V], the same at theta0.
        validation_positions: [V], tokens of each answer; 1 where a class is the answer.
        validation_gradient: [V, d], their loss gradients.
        validation_rows: what the quadratic form needs of them; None where a class or a label is the answer.
    """

    target: str
    tasks: tuple[str, ...]
    blocks: int
    rows: FloatArray
    gradient: FloatArray
    curvature: StoredArray
    squared_step_norm: float
    validation_margin: FloatArray
    validation_base_margins: FloatArray
    validation_positions: FloatArray
    validation_gradient: FloatArray
    validation_rows: SecondOrderRows | None = None

    @property
    def mean_curvature(self) -> float:
        """Mean over all train rows and the d directions of the curvature, tr(H) / (d N): the ridge's unit."""
        trace = np.trace(self.curvature, axis1=1, axis2=2, dtype=np.float64).sum()
        return float(trace / (self.curvature.shape[-1] * self.rows.sum()))

    def memberships(self, masks: BoolArray) -> FloatArray:
        """Return masks [m, n] as weights [m, n + 1] of the tasks' sums, the target always in.

        Raises:
            InputError: the masks are not over the n tasks.
        """
        if masks.ndim != 2 or masks.shape[1] != len(self.tasks):
            raise InputError(
                f"Masks of subsets have shape {list(masks.shape)}: expected [m, {len(self.tasks)}], "
                "one column for each auxiliary task of the gradient store."
            )
        return np.column_stack([masks, np.ones(len(masks))])

    def mask(self, names: list[str]) -> BoolArray:
        """Return the subset of these auxiliary tasks as a mask [n].

        Raises:
            InputError: a name is not one of an auxiliary task in the store.
        """
        unknown = sorted(set(names) - set(self.tasks))
        if unknown:
            raise InputError(
                f"{unknown[0]!r} is no auxiliary task of this gradient store: expected some of "
                f"{', '.join(self.tasks)}."
            )
        return np.isin(self.tasks, names)

    def masks(self, subsets: Iterable[Iterable[str]]) -> BoolArray:
        """Return subsets of these auxiliary tasks as masks [m, n]; raises as `mask` does."""
        return np.stack([self.mask(list(subset)) for subset in subsets])

    def block(self, index: int) -> "TaskStatistics":
        """Return the statistics under one projection block alone, as views.

        Stored vectors are scaled for d columns, so alone a block stands for an independent and coarser
        projection with the weights times sqrt(blocks): its ridge is the whole's over `blocks`.
        """
        own = block_columns(self.gradient.shape[1], self.blocks, index)
        rows = self.validation_rows
        return replace(
            self,
            blocks=1,
            gradient=self.gradient[:, own],
            curvature=self.curvature[:, own, own],
            validation_gradient=self.validation_gradient[:, own],
            validation_rows=rows and replace(rows, probe=rows.probe[:, :, own]),
        )


@dataclass(frozen=True)
class TrainRows:
    """The train rows themselves as linear margins (see `margins`), for estimators that look at each.

    Attributes:
        starts: [n + 2], index of the first row of each task of `TaskStatistics`, and the number of rows.
        offset: [N], margins at theta*.
        base_margins: [N], margins at theta0, the weights that meta-training started from.
        feature: [N, d], their gradients.
        blocks: number of projection blocks in the d columns.
    """

    starts: npt.NDArray[np.intp]
    offset: StoredArray
    base_margins: StoredArray
    feature: StoredArray
    blocks: int

    def by_task(self) -> list[tuple[StoredArray, StoredArray]]:
        """Return offset and feature of every task's rows, as views."""
        parts = [slice(*ends) for ends in pairwise(self.starts)]
        return [(self.offset[part], self.feature[part]) for part in parts]

    def block(self, index: int) -> "TrainRows":
        """Return the rows under one projection block alone, as views (see `TaskStatistics.block`)."""
        own = block_columns(self.feature.shape[1], self.blocks, index)
        return replace(self, blocks=1, feature=self.feature[:, own])


def block_columns(dimension: int, blocks: int, index: int) -> slice:
    """Return the columns of projection block number `index`."""
    width = dimension // blocks
    return slice(index * width, (index + 1) * width)
