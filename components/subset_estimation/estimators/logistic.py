"""The paper's estimator: logistic regression of the train rows' margins, for many subsets at once.

For every subset S it minimises sum_{i in S} log(1 + exp(-(b_i + m_i.w))) + R_S/2 |w|^2 over w, with the
margins at theta* as offsets b_i, no intercept and features m_i (see `margins`), by the conjugate gradient
method of Polak and Ribiere with a line search on the convex slope.

All subsets start at the solution for the average subset, which holds half of every auxiliary task. Gradient
and curvature there are sums per task, so the first direction, Newton's, needs no row, and the Cholesky factor of
that curvature preconditions what follows. A block of subsets shares each pass over the rows (see `held_rows`).
"""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.linear_model.margins import (
    FloatArray,
    StoredArray,
    error_probability,
)
from gradsift.components.subset_estimation.estimators.damped_systems import DampedSystems, solve
from gradsift.components.subset_estimation.estimators.held_rows import HeldRows
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.statistics.store_reading import outer_products
from gradsift.components.subset_estimation.statistics.task_statistics import (
    BoolArray,
    TaskStatistics,
    TrainRows,
)
from gradsift.components.subset_estimation.statistics.threads import in_threads, slices

SUBSET_BATCH = 128
MARGIN_BATCH = 2**26
GRADIENT_TOLERANCE, ROUNDING = 1e-5, 1e-9
"""Largest norm of the gradient at the end: so much of the root of the summed squares of the rows' gradients at
theta*, that is of the noise with which rows sample it, and of its norm at the start."""
MAX_ITERATIONS = 200
SLOPE_TOLERANCE = 0.1
MAX_LINE_SEARCH_STEPS = 60


@dataclass(frozen=True)
class Expansion:
    """Sums a task of the loss's derivatives at one point.

    Attributes:
        point: [d], the weights.
        margins: the rows' margins there, one array a task.
        gradient: [n + 1, d].
        curvature: [n + 1, d, d].
        squares: [n + 1], sums of the squared norms of the rows' gradients.
    """

    point: FloatArray
    margins: list[StoredArray]
    gradient: FloatArray
    curvature: StoredArray
    squares: FloatArray

    @classmethod
    def at(cls, point: FloatArray, train: TrainRows) -> "Expansion":
        """Sum over the train rows at a point [d]."""
        rows = train.by_task()
        d = len(point)
        margins: list[StoredArray] = [
            offset + feature @ point.astype(feature.dtype) for offset, feature in rows
        ]
        gradient, squares = np.zeros((len(rows), d)), np.zeros(len(rows))
        curvature = np.zeros((len(rows), d, d), train.feature.dtype)

        def add_up(task: int) -> None:
            feature, wrong = rows[task][1], error_probability(margins[task])
            gradient[task] = -wrong @ feature
            squares[task] = wrong**2 @ np.vecdot(feature, feature)
            curvature[task] = outer_products(feature * np.sqrt(wrong * (1 - wrong))[:, None])

        in_threads(add_up, range(len(rows)))
        return cls(point, margins, gradient, curvature, squares)


class Logistic:
    """Finds the weights of a subset by logistic regression with offsets."""

    def __init__(self, statistics: TaskStatistics, train: TrainRows, ridge: Ridge) -> None:
        """Solve for the average subset."""
        self.statistics = statistics
        self.train = train
        self.ridge = ridge
        at_once = MARGIN_BATCH // max(1, len(train.offset))
        self.subsets_at_once = max(1, min(SUBSET_BATCH, at_once))
        self._expansion = Expansion.at(np.zeros(train.feature.shape[1]), train)
        self._squares = self._expansion.squares
        average = np.append(np.full(len(statistics.tasks), 0.5), 1.0)[None]
        point = self._minimum((average, ridge.of_rows(average @ statistics.rows)))[0]
        self._expansion = Expansion.at(point, train)

    def weights(self, masks: BoolArray) -> FloatArray:
        """Return w_S [m, d] for subsets [m, n].

        Raises:
            InputError: the masks are not over the n tasks, or the ridge is so small that the solver did not
                converge.
        """
        memberships = self.statistics.memberships(masks)
        return self.minima(memberships, self.ridge.of_rows(memberships @ self.statistics.rows))

    def minima(self, memberships: FloatArray, ridges: FloatArray) -> FloatArray:
        """Return the minima [m, d] for weights [m, n + 1] of the tasks' summed losses and ridges [m].

        Raises:
            InputError: a ridge is so small that the solver did not converge.
        """
        parts = slices(len(ridges), self.subsets_at_once)
        return np.concatenate(
            in_threads(self._minimum, [(memberships[part], ridges[part]) for part in parts])
        )

    def _minimum(self, weighted: tuple[FloatArray, FloatArray]) -> FloatArray:
        """Return the minimum [m, d] for weights [m, n + 1] of the tasks' losses and ridges [m]."""
        start = self._expansion
        memberships, ridges = weighted
        factors = DampedSystems(memberships, start.curvature, ridges).factors()
        rows = HeldRows(memberships, self.train, start.margins)
        weights = np.tile(start.point, (len(memberships), 1))
        gradient = memberships @ start.gradient + ridges[:, None] * weights
        scaled = solve(factors, gradient)
        direction = -scaled
        largest = GRADIENT_TOLERANCE * np.sqrt(memberships @ self._squares)
        largest += ROUNDING * np.linalg.norm(gradient, axis=1)
        for _ in range(MAX_ITERATIONS):
            unfinished = np.linalg.norm(gradient, axis=1) > largest
            if not unfinished.any():
                return weights
            direction[~unfinished] = 0
            rows.look_along(direction)
            step = _line_search(rows, ridges, weights, direction, np.vecdot(gradient, direction))
            rows.move(step)
            weights += step[:, None] * direction
            previous, energy = gradient, np.vecdot(gradient, scaled)
            gradient = rows.gradient() + ridges[:, None] * weights
            scaled = solve(factors, gradient)
            gain = np.maximum(np.vecdot(gradient - previous, scaled), 0)
            conjugate = np.divide(gain, energy, out=np.zeros_like(gain), where=unfinished)
            direction = -scaled + conjugate[:, None] * direction
        raise InputError(
            f"The logistic estimator did not converge in {MAX_ITERATIONS} iterations with this ridge: "
            "choose a larger one, or the estimator 'gauss_newton'."
        )


def _line_search(
    rows: HeldRows, ridges: FloatArray, weights: FloatArray, direction: FloatArray, first_slope: FloatArray
) -> FloatArray:
    """Return steps [m] at which the slope of the objective along the direction is a tenth of the first.

    Newton's method on the slope, which rises with the step, kept inside the bracket of its root.
    """
    start, square = ridges * np.vecdot(weights, direction), ridges * np.vecdot(direction, direction)
    step = np.ones(len(ridges))
    low, high = np.zeros_like(step), np.full_like(step, np.inf)
    for _ in range(MAX_LINE_SEARCH_STEPS):
        slope, curvature = rows.slopes(step)
        slope += start + step * square
        found = np.abs(slope) <= SLOPE_TOLERANCE * np.abs(first_slope)
        if found.all():
            break
        low, high = np.where(slope < 0, step, low), np.where(slope > 0, step, high)
        newton = step - slope / np.where(found, 1, curvature + square)
        middle = np.where(np.isinf(high), 2 * step, (low + high) / 2)
        inside = (low < newton) & (newton < high)
        step = np.where(found, step, np.where(inside, newton, middle))
    return step
