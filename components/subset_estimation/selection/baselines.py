"""Simple choices to compare the selection with, each a function from the same store to a subset.

`all` and `target_only` are marks to measure by: they keep to no constraint, but that `all` leaves out tasks that
must be out. The others take as many tasks as the selection did and keep to its constraints. Those that rank
tasks do so by mean gradients (a step along a train gradient that points the way of the target's validation
gradient lowers the target's loss), by rows' gradients, or by hidden states.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.selection.constraints import Constraints
from gradsift.components.subset_estimation.statistics.directions import unit
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, TaskStatistics

MAX_DRAWS = 100
"""Random subsets drawn to find another one than the selection."""


@dataclass(frozen=True)
class BaselineInputs:
    """What a baseline may look at.

    Attributes:
        statistics: sums a task.
        store: the gradient store, for baselines that look at rows.
        ridge: the ridge of the estimates.
        constraints: what the subset must keep to.
        selected: [n], the selection.
        generator: of random numbers.
    """

    statistics: TaskStatistics
    store: GradientStore
    ridge: Ridge
    constraints: Constraints
    selected: BoolArray
    generator: np.random.Generator

    @property
    def size(self) -> int:
        """Number of tasks in the selection."""
        return int(self.selected.sum())


Baseline = Callable[[BaselineInputs], BoolArray | None]


def all_tasks(inputs: BaselineInputs) -> BoolArray:
    """Return all auxiliary tasks but those that must be out."""
    return ~inputs.constraints.excluded


def target_only(inputs: BaselineInputs) -> BoolArray:
    """Return no auxiliary task."""
    return np.zeros_like(inputs.selected)


def random_tasks(inputs: BaselineInputs) -> BoolArray:
    """Return a random subset of the selection's size, another one than it where one is found."""
    for _ in range(MAX_DRAWS):
        drawn: BoolArray = inputs.constraints.random_subsets(inputs.size, 1, inputs.generator)[0]
        if (drawn != inputs.selected).any():
            break
    return drawn


def gradient_cosine(inputs: BaselineInputs) -> FloatArray:
    """Return each task's [n] cosine of its mean gradient with the target's; 0 for a zero gradient."""
    means, target = _task_means(inputs.statistics), inputs.statistics.validation_gradient.mean(axis=0)
    return unit(means) @ unit(target)


def gradient_dot(inputs: BaselineInputs) -> FloatArray:
    """Return each task's [n] inner product of its mean gradient with the target's."""
    target = inputs.statistics.validation_gradient.mean(axis=0)
    return _task_means(inputs.statistics) @ target


def less(inputs: BaselineInputs) -> FloatArray:
    """Return how much each task's [n] rows are like the target's validation rows, as LESS measures it.

    A train row's influence is the mean over validation rows of the cosine of their gradients; a task's score is
    the mean over its rows. LESS (Xia et al., arXiv 2402.04333) sums this over checkpoints and divides train
    gradients by Adam's second moments; here is one checkpoint, theta*, and plain gradients, as no others are
    stored.
    """
    target = unit(inputs.statistics.validation_gradient).mean(axis=0)
    directions = [_mean(unit(shard.gradient) for shard in shards) for shards in _train_shards(inputs)]
    return np.stack(directions) @ target


def trak(inputs: BaselineInputs) -> FloatArray:
    """Return how much each task [n] lowers the target's validation loss by one preconditioned step, as TRAK does.

    TRAK (Park et al., arXiv 2303.14186) scores train row i, with margin gradient m_i, for a model output with
    gradient o as o.(H + R I)^-1 m_i (1 - p_i), where m_i (1 - p_i) is minus the loss gradient; the output here is
    the target's validation loss. It is linear in the row, so a task's mean gradient suffices. H and R are those
    of all tasks together.
    """
    statistics = inputs.statistics
    matrix = statistics.curvature.sum(axis=0, dtype=np.float64)
    matrix[np.diag_indices_from(matrix)] += inputs.ridge.of_rows(statistics.rows.sum(keepdims=True))
    step = cho_solve(cho_factor(matrix), statistics.validation_gradient.mean(axis=0))
    return _task_means(statistics) @ step


def representation_similarity(inputs: BaselineInputs) -> FloatArray | None:
    """Return each task's [n] cosine of its mean hidden state with that of the target's validation rows.

    None where the store has no hidden states.
    """
    store = inputs.store
    if store.header.hidden is None:
        return None
    target = _mean(
        np.asarray(shard.hidden, np.float64) for shard in store.read(inputs.statistics.target, "val")
    )
    means = [
        _mean(np.asarray(shard.hidden, np.float64) for shard in shards) for shards in _train_shards(inputs)
    ]
    return unit(np.stack(means)) @ unit(target)


def _highest_by(score: Callable[[BaselineInputs], FloatArray | None]) -> Baseline:
    """Return the baseline that takes as many tasks as the selection has, those with the highest scores."""

    def choose(inputs: BaselineInputs) -> BoolArray | None:
        scores = score(inputs)
        return None if scores is None else inputs.constraints.highest(scores, inputs.size)

    return choose


SCORES: dict[str, Callable[[BaselineInputs], FloatArray | None]] = {
    "gradient_cosine": gradient_cosine,
    "gradient_dot": gradient_dot,
    "less": less,
    "trak": trak,
    "representation_similarity": representation_similarity,
}
"""What ranks tasks by a score of each, the higher the better."""

BASELINES: dict[str, Baseline] = {
    "all": all_tasks,
    "target_only": target_only,
    "random": random_tasks,
    **{name: _highest_by(score) for name, score in SCORES.items()},
}


def _task_means(statistics: TaskStatistics) -> FloatArray:
    return statistics.gradient[:-1] / statistics.rows[:-1, None]


def _train_shards(inputs: BaselineInputs) -> Iterator[Iterator[Shard]]:
    """Yield the shards of every auxiliary task, one shard at a time in memory."""
    for task in inputs.statistics.tasks:
        yield inputs.store.read(task, "train")


def _mean(parts: Iterator[FloatArray]) -> FloatArray:
    """Return the mean [k] over the rows of all parts [rows, k]."""
    total, rows = 0.0, 0
    for part in parts:
        total, rows = total + part.sum(axis=0), rows + len(part)
    return np.asarray(total / rows)
