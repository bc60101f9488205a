"""The paper's estimator: logistic regression of the train rows' margins, for many subsets at once.

For every subset S it minimises sum_{i in S} log(1 + exp(-(b_i + m_i.w))) + R_S/2 |w|^2 over w, with the
margins at theta* as offsets b_i, no intercept and features m_i (see `margins`), until the gradient is 1e-8 of
what it was. The method is the conjugate gradient method of Polak and Ribiere, preconditioned by the Cholesky
factor of the Hessian at w = 0, with a line search on the convex slope; a block of subsets shares each pass
over the rows.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from gradsift.components.shared.errors import InputError
from gradsift.components.subset_estimation.margins import FloatArray, linear_margins
from gradsift.components.subset_estimation.ridge import Ridge, damped_curvatures
from gradsift.components.subset_estimation.task_statistics import BoolArray, TaskStatistics, TrainRows

NUMBERS_AT_ONCE = 2**24
GRADIENT_TOLERANCE = 1e-8
MOST_ITERATIONS = 500
SLOPE_TOLERANCE = 0.1
MOST_LINE_SEARCH_STEPS = 60


class Logistic:
    """Finds the weights of a subset by logistic regression with offsets."""

    def __init__(self, statistics: TaskStatistics, train: TrainRows, ridge: Ridge) -> None:
        self.statistics = statistics
        self.ridge = ridge
        self.task = train.task
        self.offset, self.feature = linear_margins(train.margin, train.gradient)
        self.start_curvature = self._curvature_at_start()
        numbers_a_subset = max(self.start_curvature[0].size, len(self.task))
        self.subsets_at_once = max(1, NUMBERS_AT_ONCE // numbers_a_subset)

    def weights(self, masks: BoolArray) -> FloatArray:
        """Return w_S [m, d] for at most `subsets_at_once` subsets [m, n].

        Raises:
            InputError: the ridge is so small that the solver did not converge.
        """
        memberships = self.statistics.memberships(masks)
        ridges = self.ridge.of_rows(memberships @ self.statistics.rows)
        factors = [
            cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
            for system in damped_curvatures(memberships, self.start_curvature, ridges)
        ]
        member = memberships[:, self.task]
        weights = np.zeros((len(masks), self.feature.shape[1]))
        margins = np.tile(self.offset, (len(masks), 1))
        gradient = self._gradient(member, ridges, weights, margins)
        scaled = _precondition(factors, gradient)
        direction = -scaled
        smallest = GRADIENT_TOLERANCE * np.linalg.norm(gradient, axis=1)
        for _ in range(MOST_ITERATIONS):
            unfinished = np.linalg.norm(gradient, axis=1) > smallest
            if not unfinished.any():
                return weights
            direction[~unfinished] = 0
            change = direction @ self.feature.T
            step = _line_search(member, margins, change, ridges, weights, direction)[:, None]
            weights += step * direction
            margins += step * change
            previous, energy = gradient, _dots(gradient, scaled)
            gradient = self._gradient(member, ridges, weights, margins)
            scaled = _precondition(factors, gradient)
            gain = np.maximum(_dots(gradient - previous, scaled), 0)
            conjugate = np.divide(gain, energy, out=np.zeros_like(gain), where=unfinished)
            direction = -scaled + conjugate[:, None] * direction
        raise InputError(
            f"The logistic estimator did not converge in {MOST_ITERATIONS} iterations with this ridge: "
            "choose a larger one, or the estimator 'gauss_newton'."
        )

    def _gradient(
        self, member: FloatArray, ridges: FloatArray, weights: FloatArray, margins: FloatArray
    ) -> FloatArray:
        return ridges[:, None] * weights - (member * expit(-margins)) @ self.feature

    def _curvature_at_start(self) -> FloatArray:
        weight = np.sqrt(expit(self.offset) * expit(-self.offset))[:, None]
        blocks = [(self.feature * weight)[self.task == task] for task in range(len(self.statistics.rows))]
        return np.stack([block.T @ block for block in blocks])


def _line_search(
    member: FloatArray,
    margins: FloatArray,
    change: FloatArray,
    ridges: FloatArray,
    weights: FloatArray,
    direction: FloatArray,
) -> FloatArray:
    """Return steps [m] at which the slope of the objective along the direction is a tenth of its start.

    Newton's method on the slope, which rises with the step, kept inside the bracket of its root.
    """
    start, square = ridges * _dots(weights, direction), ridges * _dots(direction, direction)
    first_slope = start - _dots(member * expit(-margins), change)
    step = np.ones(len(margins))
    low, high = np.zeros_like(step), np.full_like(step, np.inf)
    for _ in range(MOST_LINE_SEARCH_STEPS):
        error = member * expit(-(margins + step[:, None] * change))
        slope = start + step * square - _dots(error, change)
        found = np.abs(slope) <= SLOPE_TOLERANCE * np.abs(first_slope)
        if found.all():
            break
        curvature = square + _dots(error * (1 - error), change**2)
        low, high = np.where(slope < 0, step, low), np.where(slope > 0, step, high)
        newton = step - slope / np.where(found, 1, curvature)
        middle = np.where(np.isinf(high), 2 * step, (low + high) / 2)
        inside = (low < newton) & (newton < high)
        step = np.where(found, step, np.where(inside, newton, middle))
    return step


def _precondition(factors: list[tuple[FloatArray, bool]], gradient: FloatArray) -> FloatArray:
    return np.stack(
        [cho_solve(factor, row, check_finite=False) for factor, row in zip(factors, gradient, strict=True)]
    )


def _dots(left: FloatArray, right: FloatArray) -> FloatArray:
    products: FloatArray = np.einsum("md,md->m", left, right)
    return products
