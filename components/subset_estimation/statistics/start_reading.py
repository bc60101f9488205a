"""Reading what a fine-tuning run starts from off a gradient store, in one pass over its train shards.

Where there is a second store, at the base weights, features can be blends of both stores' gradients.

Memory is that of the sums, of the sampled rows and of a few shards per core, whatever the number of rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, Split
from gradsift.components.shared.linear_model.margins import (
    MIN_ERROR,
    FloatArray,
    StoredArray,
    cross_entropy,
    error_probability,
    linear_margins,
)
from gradsift.components.shared.parameters.training import Start
from gradsift.components.subset_estimation.statistics.run_start import RunStart, StartRows
from gradsift.components.subset_estimation.statistics.store_reading import check_finite, outer_products
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics
from gradsift.components.subset_estimation.statistics.threads import in_threads

SAMPLED_ROWS, TARGET_ROWS = 12288, 4096
"""Most rows that are simulated one by one, over all tasks, and of the target, which every subset holds."""
SAMPLE_SEED = 0


@dataclass(frozen=True)
class Blend:
    """Gradients (1 - alpha) times those at the base weights plus alpha times those at theta*.

    Attributes:
        base: the store at the base weights.
        alpha: 0 to 1.
    """

    base: GradientStore
    alpha: float


@dataclass(frozen=True)
class _Margins:
    """Margins of a shard's rows at the base weights and at theta*, and how they change with the weights."""

    base: FloatArray
    meta: FloatArray
    feature: StoredArray
    positions: StoredArray

    def at(self, start: Start) -> FloatArray:
        return self.base if start == "base" else self.meta


def read_run_start(
    store: GradientStore, statistics: TaskStatistics, start: Start, blend: Blend | None = None
) -> RunStart:
    """Read the margins and features of train and validation rows at the weights that runs start from.

    Args:
        store: the gradient store, whose rows were checked when `statistics` was read.
        statistics: the same store's sums.
        start: `base` for the base weights, `meta` for theta*.
        blend: what features are blended with; None takes the gradients at theta* as they are.

    Raises:
        GradientStoreError: a store cannot be read, or the two are of other rows or another projection.
    """
    if blend is not None:
        _check_alike(store, blend.base)
    tasks = [*statistics.tasks, statistics.target]
    columns = store.header.dimension + 1
    kept = sample_sizes(statistics.rows)
    starts = np.cumsum([0, *kept])
    base_margin, meta_margin, positions = np.empty((3, starts[-1]), np.float32)
    feature = np.empty((starts[-1], columns), np.float32)
    gradient = np.zeros((len(tasks), columns))
    curvature = np.zeros((len(tasks), columns, columns), np.float32)

    def read(index: int) -> None:
        count, first, to = int(statistics.rows[index]), 0, starts[index]
        wanted = _sampled(count, kept[index])
        for margins in _read(store, tasks[index], "train", blend):
            wrong = error_probability(margins.at(start))
            gradient[index] -= (wrong / margins.positions) @ margins.feature / count
            weight = np.sqrt(wrong * (1 - wrong) / margins.positions / count)
            curvature[index] += outer_products(margins.feature * weight[:, None].astype(np.float32))
            own = wanted[(wanted >= first) & (wanted < first + len(wrong))] - first
            part = slice(to, to + len(own))
            base_margin[part], meta_margin[part] = margins.base[own], margins.meta[own]
            positions[part], feature[part] = margins.positions[own], margins.feature[own]
            first, to = first + len(wrong), part.stop

    in_threads(read, range(len(tasks)))
    validation = list(_read(store, statistics.target, "val", blend))
    margin = np.concatenate([each.at(start) for each in validation])
    at_start = base_margin if start == "base" else meta_margin
    return RunStart(
        blocks=store.header.blocks,
        counts=statistics.rows,
        rows=StartRows(starts, at_start, base_margin, meta_margin, feature, positions),
        gradient=gradient,
        curvature=curvature,
        validation_margin=margin,
        validation_feature=np.concatenate([each.feature for each in validation]).astype(np.float64),
        validation_positions=np.concatenate([each.positions for each in validation]).astype(np.float64),
        alpha=1.0 if blend is None else blend.alpha,
    )


def sample_sizes(rows: FloatArray) -> npt.NDArray[np.intp]:
    """Return how many rows of each task [n + 1] are kept: all, or as many of each source as there is room for."""
    target = min(rows[-1], TARGET_ROWS)
    low, high = 1, int(rows.max())
    while low < high:
        middle = (low + high + 1) // 2
        fits = np.minimum(rows[:-1], middle).sum() + target <= SAMPLED_ROWS
        low, high = (middle, high) if fits else (low, middle - 1)
    return np.append(np.minimum(rows[:-1], low), target).astype(np.intp)


def _sampled(count: int, kept: int) -> npt.NDArray[np.intp]:
    """Return the sorted indices of the rows that are kept of a task."""
    return np.sort(np.random.default_rng(SAMPLE_SEED).permutation(count)[:kept])


def _check_alike(store: GradientStore, base: GradientStore) -> None:
    """Raise GradientStoreError unless two stores differ in nothing but the weights of their gradients."""
    own = {"model_digest": base.header.model_digest, "squared_step_norm": 0.0}
    if base.header != store.header.model_copy(update=own):
        raise GradientStoreError(
            f"The gradient stores at {store.storage.uri} and {base.storage.uri} cannot be blended: expected "
            "gradients of the same rows and parameters by the same projection, at theta* and at the base weights."
        )


def _read(store: GradientStore, task: str, split: Split, blend: Blend | None) -> Iterator[_Margins]:
    """Yield the margins of each shard of a task, checked."""
    if blend is None:
        for shard in store.read(task, split):
            check_finite(store, task, split, shard, ("base_margin",))
            yield _margins(store, shard)
        return
    for margins, shard in zip(_read(store, task, split, None), blend.base.read(task, split), strict=True):
        check_finite(blend.base, task, split, shard, ("margin", "gradient"))
        _, base = _linear(store, shard)
        own = margins.feature[:, :-1]
        own[:] = (1 - blend.alpha) * base + blend.alpha * own
        yield margins


def _margins(store: GradientStore, shard: Shard) -> _Margins:
    offset, gradient = _linear(store, shard)
    start = np.clip(_margin(store, shard, shard.base_margin), logit(MIN_ERROR), -logit(MIN_ERROR))
    norm = np.sqrt(store.header.squared_step_norm)
    along = np.zeros(len(start)) if norm == 0 else (offset - start) / norm
    feature = np.column_stack([gradient, along.astype(gradient.dtype)])
    return _Margins(start, offset, feature, _positions(store, shard))


def _linear(store: GradientStore, shard: Shard) -> tuple[FloatArray, StoredArray]:
    """Return offset [n] and gradient [n, d] of the margins of a shard's rows at the store's weights."""
    gradient = shard.gradient * _positions(store, shard)[:, None]
    return linear_margins(_margin(store, shard, shard.margin), gradient)


def _margin(store: GradientStore, shard: Shard, margin: StoredArray) -> FloatArray:
    """Return the margins [n] whose softplus, over `_positions`, is the loss, for margins of whole answers.

    For free text it is log q/(1-q), q being the geometric mean of an answer's token probabilities.
    """
    if store.header.answer != "text":
        return margin.astype(np.float64)
    loss = cross_entropy(margin.astype(np.float64)) / shard.positions
    return -np.log(np.maximum(np.expm1(loss), MIN_ERROR))


def _positions(store: GradientStore, shard: Shard) -> StoredArray:
    """Return by how many tokens a row's loss is divided, beside its margin, [n]."""
    return np.ones_like(shard.positions) if store.header.answer == "text" else shard.positions
