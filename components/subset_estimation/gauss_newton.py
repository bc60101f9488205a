"""One damped Gauss-Newton step for any subset, from sums a task: w_S = -(H_S + R_S I)^-1 G_S.

H_S and G_S are sums over the subset's tasks and the target, so a subset costs one weighted sum of matrices
and one Cholesky factorisation, whatever the number of rows.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from gradsift.components.subset_estimation.margins import FloatArray
from gradsift.components.subset_estimation.ridge import Ridge, damped_curvatures
from gradsift.components.subset_estimation.task_statistics import BoolArray, TaskStatistics

NUMBERS_AT_ONCE = 2**24


class GaussNewton:
    """Finds the weights of a subset by one damped Gauss-Newton step from theta*."""

    def __init__(self, statistics: TaskStatistics, ridge: Ridge) -> None:
        self.statistics = statistics
        self.ridge = ridge
        self.subsets_at_once = max(1, NUMBERS_AT_ONCE // statistics.curvature[0].size)

    def weights(self, masks: BoolArray) -> FloatArray:
        """Return w_S [m, d] for at most `subsets_at_once` subsets [m, n]."""
        memberships = self.statistics.memberships(masks)
        ridges = self.ridge.of_rows(memberships @ self.statistics.rows)
        gradients = memberships @ self.statistics.gradient
        systems = damped_curvatures(memberships, self.statistics.curvature, ridges)
        return -np.stack([_solve(*system) for system in zip(systems, gradients, strict=True)])


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    solution: FloatArray = cho_solve(factor, right, check_finite=False)
    return solution
