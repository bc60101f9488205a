"""One damped Gauss-Newton step for any subset, from sums a task: w_S = -(H_S + R_S I)^-1 G_S.

H_S and G_S are sums over the subset's tasks and the target, so a subset costs one weighted sum of matrices
and one Cholesky factorisation, whatever the number of rows.
"""

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.subset_estimation.estimators.damped_systems import DampedSystems
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, TaskStatistics


class GaussNewton:
    """Finds the weights of a subset by one damped Gauss-Newton step from theta*."""

    def __init__(self, statistics: TaskStatistics, ridge: Ridge) -> None:
        self.statistics = statistics
        self.ridge = ridge

    def weights(self, masks: BoolArray) -> FloatArray:
        """Return w_S [m, d] for subsets [m, n].

        Raises:
            InputError: the masks are not over the n tasks, or the ridge is too small (see `DampedSystems`).
        """
        memberships = self.statistics.memberships(masks)
        gradients = memberships @ self.statistics.gradient
        ridges = self.ridge.of_rows(memberships @ self.statistics.rows)
        return -DampedSystems(memberships, self.statistics.curvature, ridges).solutions(gradients)
