"""What the estimators need of a gradient store: sums a task, and the target's validation rows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store import GradientStore, Shard
from gradsift.components.subset_estimation.margins import FloatArray, cross_entropy

BoolArray = npt.NDArray[np.bool_]
Split = Literal["train", "val"]

MARGIN_TOLERANCE = 0.01


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
        validation_margin: [V], margins of the target's validation rows.
        validation_gradient: [V, d], their loss gradients.
    """

    target: str
    tasks: tuple[str, ...]
    blocks: int
    rows: FloatArray
    gradient: FloatArray
    curvature: FloatArray
    validation_margin: FloatArray
    validation_gradient: FloatArray

    @property
    def mean_curvature(self) -> float:
        """Mean over all train rows and the d directions of the curvature, tr(H) / (d N): the ridge's unit."""
        trace = np.trace(self.curvature, axis1=1, axis2=2).sum()
        return float(trace / (self.curvature.shape[-1] * self.rows.sum()))

    def memberships(self, masks: BoolArray) -> FloatArray:
        """Return masks [m, n] as weights [m, n + 1] of the tasks' sums, the target always in."""
        return np.column_stack([masks, np.ones(len(masks))])

    def block(self, index: int) -> "TaskStatistics":
        """Return the statistics under one projection block alone, an independent and coarser projection.

        Stored vectors are scaled for d columns; the block's columns times sqrt(blocks) are scaled for its
        own.
        """
        own = block_columns(self.gradient.shape[1], self.blocks, index)
        scale = np.sqrt(self.blocks)
        return replace(
            self,
            blocks=1,
            gradient=self.gradient[:, own] * scale,
            curvature=np.ascontiguousarray(self.curvature[:, own, own]) * self.blocks,
            validation_gradient=self.validation_gradient[:, own] * scale,
        )


@dataclass(frozen=True)
class TrainRows:
    """The train rows themselves, for estimators that look at each.

    Attributes:
        task: [N], index of the row's task in the sums of `TaskStatistics`.
        margin: [N].
        gradient: [N, d].
        blocks: number of projection blocks in the d columns.
    """

    task: npt.NDArray[np.intp]
    margin: FloatArray
    gradient: FloatArray
    blocks: int

    def block(self, index: int) -> "TrainRows":
        """Return the rows under one projection block alone (see `TaskStatistics.block`)."""
        own = block_columns(self.gradient.shape[1], self.blocks, index)
        return replace(self, blocks=1, gradient=self.gradient[:, own] * np.sqrt(self.blocks))


def block_columns(dimension: int, blocks: int, index: int) -> slice:
    """Return the columns of projection block number `index`."""
    width = dimension // blocks
    return slice(index * width, (index + 1) * width)


def read_statistics(store: GradientStore) -> TaskStatistics:
    """Read the whole store once, one shard at a time in memory.

    Raises:
        GradientStoreError: a task has no train rows, the target no validation rows, there is no auxiliary
            task, the projection blocks do not divide the columns, a number is not finite, or losses and
            margins contradict each other.
    """
    header = store.header
    if header.blocks < 1 or header.dimension % header.blocks or header.probes < 1:
        raise GradientStoreError(
            f"The gradient store at {store.storage.uri} has {header.dimension} columns, {header.blocks} "
            f"projection blocks and {header.probes} probes: expected equal blocks and at least one probe."
        )
    tasks = _auxiliary_tasks(store)
    sums = [_task_sums(store, task) for task in [*tasks, header.target]]
    margin, gradient = _validation_rows(store)
    return TaskStatistics(
        target=header.target,
        tasks=tasks,
        blocks=header.blocks,
        rows=np.array([rows for rows, _, _ in sums], np.float64),
        gradient=np.stack([gradient_sum for _, gradient_sum, _ in sums]),
        curvature=np.stack([curvature for _, _, curvature in sums]),
        validation_margin=margin,
        validation_gradient=gradient,
    )


def read_train_rows(store: GradientStore) -> TrainRows:
    """Read the margin and gradient of every train row; takes 8 d bytes of memory a row.

    Raises:
        GradientStoreError: a number is not finite.
    """
    shards = [
        (index, shard)
        for index, task in enumerate([*_auxiliary_tasks(store), store.header.target])
        for shard in _finite_shards(store, task, "train")
    ]
    return TrainRows(
        task=np.concatenate([np.full(len(shard.margin), index) for index, shard in shards]),
        margin=np.concatenate([shard.margin for _, shard in shards]).astype(np.float64),
        gradient=np.concatenate([shard.gradient for _, shard in shards]).astype(np.float64),
        blocks=store.header.blocks,
    )


def _auxiliary_tasks(store: GradientStore) -> tuple[str, ...]:
    target = store.header.target
    rows = store.train_rows
    for task in dict.fromkeys([*(shard.task for shard in store.shards), target]):
        if rows.get(task, 0) == 0:
            raise GradientStoreError(
                f"Task {task!r} has no train rows in the gradient store at {store.storage.uri}."
            )
    auxiliary = tuple(task for task in rows if task != target)
    if not auxiliary:
        raise GradientStoreError(
            f"The gradient store at {store.storage.uri} holds the target {target!r} alone: "
            "expected at least one auxiliary task to choose from."
        )
    return auxiliary


def _task_sums(store: GradientStore, task: str) -> tuple[int, FloatArray, FloatArray]:
    dimension, probes = store.header.dimension, store.header.probes
    rows = 0
    gradient = np.zeros(dimension)
    curvature = np.zeros((dimension, dimension))
    for shard in _finite_shards(store, task, "train"):
        rows += len(shard.loss)
        gradient += shard.gradient.sum(axis=0, dtype=np.float64)
        probe = shard.probe.reshape(-1, dimension).astype(np.float64)
        curvature += probe.T @ probe / probes
    return rows, gradient, curvature


def _validation_rows(store: GradientStore) -> tuple[FloatArray, FloatArray]:
    target = store.header.target
    shards = list(_finite_shards(store, target, "val"))
    if sum(len(shard.loss) for shard in shards) == 0:
        raise GradientStoreError(
            f"The target task {target!r} has no val rows in the gradient store at {store.storage.uri}."
        )
    loss, margin, gradient = (
        np.concatenate([getattr(shard, name) for shard in shards]).astype(np.float64)
        for name in ("loss", "margin", "gradient")
    )
    if (np.abs(loss - cross_entropy(margin)) > MARGIN_TOLERANCE * (1 + loss)).any():
        raise GradientStoreError(
            f"Losses and margins of the target task {target!r} contradict each other in the gradient store "
            f"at {store.storage.uri}: expected loss = log(1 + exp(-margin)), one right answer a row."
        )
    return margin, gradient


def _finite_shards(store: GradientStore, task: str, split: Split) -> Iterator[Shard]:
    for shard in store.read(task, split):
        for name in ("loss", "margin", "gradient", "probe"):
            if not np.isfinite(getattr(shard, name)).all():
                raise GradientStoreError(
                    f"Task {task!r}, {split} split of the gradient store at {store.storage.uri}: "
                    f"{name} is not finite."
                )
        yield shard
