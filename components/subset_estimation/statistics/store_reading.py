"""Reading a gradient store for the estimators, in one pass over its shards.

Memory is that of the sums and of a few shards a core, whatever the number of rows. Products of float32 rows
are summed in float64 every `ROW_BATCH` rows. A number that is not finite leaves a sum that is not finite,
so sums are checked first, and rows only to name what is wrong.
"""

from collections.abc import Iterator

import numpy as np

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, Split
from gradsift.components.shared.linear_model.margins import (
    FloatArray,
    StoredArray,
    cross_entropy,
    linear_margins,
)
from gradsift.components.subset_estimation.statistics.task_statistics import (
    SecondOrderRows,
    TaskStatistics,
    TrainRows,
)
from gradsift.components.subset_estimation.statistics.threads import in_threads, slices

MARGIN_TOLERANCE = 0.01
ROW_BATCH = 1024
VALIDATION_ARRAYS = ("loss", "margin", "base_margin", "gradient", "probe")


def read_statistics(store: GradientStore) -> TaskStatistics:
    """Read the whole store once.

    Raises:
        GradientStoreError: a task has no train rows, the target no validation rows, there is no auxiliary
            task, the projection blocks do not divide the columns, a number is not finite, or validation losses
            are not those of their margins where one answer decides a row.
    """
    header = store.header
    if header.blocks < 1 or header.dimension % header.blocks or header.probes < 1:
        raise GradientStoreError(
            f"The gradient store at {store.storage.uri} has {header.dimension} columns, {header.blocks} "
            f"projection blocks and {header.probes} probes: expected equal blocks and at least one probe."
        )
    tasks = [*auxiliary_tasks(store), header.target]
    gradient = np.zeros((len(tasks), header.dimension))
    curvature = np.zeros((len(tasks), header.dimension, header.dimension), np.float32)

    def add_up(index: int) -> None:
        gradient[index], curvature[index] = _task_sums(store, tasks[index])

    in_threads(add_up, range(len(tasks)))
    rows = store.train_rows
    validation = _validation_rows(store)
    return TaskStatistics(
        target=header.target,
        tasks=tuple(tasks[:-1]),
        blocks=header.blocks,
        rows=np.array([rows[task] for task in tasks], np.float64),
        gradient=gradient,
        curvature=curvature,
        squared_step_norm=header.squared_step_norm,
        validation_margin=validation["margin"],
        validation_base_margins=validation["base_margin"],
        validation_positions=validation["positions"],
        validation_gradient=validation["gradient"],
        validation_rows=(
            SecondOrderRows(validation["loss"], validation["probe"]) if header.answer == "text" else None
        ),
    )


def read_train_rows(store: GradientStore) -> TrainRows:
    """Read every train row as a linear margin; takes 4 d bytes of memory a row.

    Raises:
        GradientStoreError: rows are not answered by one class each, a number is not finite, or a loss is not the
            one of its margin.
    """
    if not has_train_margins(store):
        raise GradientStoreError(
            f"The rows of the gradient store at {store.storage.uri} are answered by several tokens each, so that "
            "their losses are not -log sigmoid(margin): expected the estimator 'gauss_newton'."
        )
    tasks = [*auxiliary_tasks(store), store.header.target]
    starts = np.cumsum([0, *(store.train_rows[task] for task in tasks)])
    offset, base_margins = np.empty(starts[-1], np.float32), np.empty(starts[-1], np.float32)
    feature = np.empty((starts[-1], store.header.dimension), np.float32)

    def read(index: int) -> None:
        first = starts[index]
        for shard in store.read(tasks[index], "train"):
            check_finite(store, tasks[index], "train", shard, ("loss", "margin", "base_margin", "gradient"))
            _check_margins(store, tasks[index], "train", shard)
            rows = slice(first, first + len(shard.margin))
            base_margins[rows] = shard.base_margin
            offset[rows], feature[rows] = linear_margins(shard.margin, shard.gradient)
            first = rows.stop

    in_threads(read, range(len(tasks)))
    return TrainRows(starts, offset, base_margins, feature, store.header.blocks)


def has_train_margins(store: GradientStore) -> bool:
    """Say whether every row's loss is -log sigmoid(margin), as `read_train_rows` needs it."""
    return store.header.answer == "class"


def auxiliary_tasks(store: GradientStore) -> tuple[str, ...]:
    """Return the names of the auxiliary tasks, in the store's order.

    Raises:
        GradientStoreError: a task has no train rows, or there is no auxiliary task.
    """
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


def check_finite(store: GradientStore, task: str, split: Split, shard: Shard, names: tuple[str, ...]) -> None:
    """Raise GradientStoreError naming the row in which one of these arrays of a shard is not finite."""
    for name in names:
        finite = np.isfinite(getattr(shard, name))
        if not finite.all():
            row = shard.example_id[int(np.argwhere(~finite)[0][0])]
            raise GradientStoreError(
                f"Task {task!r}, {split} split of the gradient store at {store.storage.uri}: "
                f"{name} is not finite in row {row!r}."
            )


def outer_products(rows: StoredArray) -> FloatArray:
    """Return the sum over rows [N, d] of x x^T, [d, d]."""
    d = rows.shape[1]
    parts = (rows[part] for part in slices(len(rows), ROW_BATCH))
    return sum((part.T @ part for part in parts), np.zeros((d, d)))


def _task_sums(store: GradientStore, task: str) -> tuple[FloatArray, FloatArray]:
    dimension, probes = store.header.dimension, store.header.probes
    gradient = np.zeros(dimension)
    curvature = np.zeros((dimension, dimension))
    for shard in store.read(task, "train"):
        with np.errstate(over="ignore", invalid="ignore"):
            shard_gradient = shard.gradient.sum(axis=0, dtype=np.float64)
            shard_curvature = outer_products(shard.probe.reshape(-1, dimension)) / probes
        sums = (shard.loss, shard.margin, shard_gradient, shard_curvature)
        if not all(np.isfinite(numbers).all() for numbers in sums):
            check_finite(store, task, "train", shard, ("loss", "margin", "gradient", "probe"))
            raise GradientStoreError(
                f"Task {task!r} of the gradient store at {store.storage.uri} has gradients whose squares "
                "are above the largest float32."
            )
        gradient += shard_gradient
        curvature += shard_curvature
    return gradient, curvature


def _validation_rows(store: GradientStore) -> dict[str, FloatArray]:
    """Return losses, margins, base margins and positions [V], gradients [V, d] and probes [V, R, d], by name."""
    target = store.header.target
    shards = list(_validation_shards(store))
    if sum(len(shard.loss) for shard in shards) == 0:
        raise GradientStoreError(
            f"The target task {target!r} has no val rows in the gradient store at {store.storage.uri}."
        )
    return {
        name: np.concatenate([getattr(shard, name) for shard in shards]).astype(np.float64)
        for name in ("loss", "margin", "base_margin", "positions", "gradient", "probe")
    }


def _validation_shards(store: GradientStore) -> Iterator[Shard]:
    for shard in store.read(store.header.target, "val"):
        check_finite(store, store.header.target, "val", shard, VALIDATION_ARRAYS)
        if store.header.answer != "text":
            _check_margins(store, store.header.target, "val", shard)
        yield shard


def _check_margins(store: GradientStore, task: str, split: Split, shard: Shard) -> None:
    expected = cross_entropy(shard.margin) / shard.positions
    if not (np.abs(shard.loss - expected) <= MARGIN_TOLERANCE * (1 + shard.loss)).all():
        raise GradientStoreError(
            f"Task {task!r}, {split} split of the gradient store at {store.storage.uri} has losses that are not "
            "those of its margins, log(1 + exp(-margin)) over the answer's tokens: expected a store that gradsift "
            "wrote."
        )
