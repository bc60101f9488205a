"""Weights of many subsets where their loss is quadratic in the weights: the search form, whose cost is no row's.

With the mean gradient g and curvature H of a subset's rows at the start, T steps of gradient descent and ridge
regression are functions of H alone,

    w = -f(H) g,    f(x) = (1 - prod_t (1 - eta gamma_t x)) / x    or    1 / (x + R).

All of them are read off one Krylov space of H and g: `KRYLOV` products with H give an orthonormal basis V and
T = V^T H V (Lanczos' method with reorthogonalisation, Golub and Van Loan, Matrix Computations, section 10.1), and
f(H) g is |g| V f(T) e_1 up to rounding, as few directions have large eigenvalues. Steps that would diverge are cut
to the largest that do not: the exact loss is linear far out, so that its descent stays bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray, StoredArray
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.estimators.run_rates import RunRates
from gradsift.components.subset_estimation.statistics.run_start import RunStart
from gradsift.components.subset_estimation.statistics.threads import in_threads, scratch, slices

KRYLOV = 16
SUM_BATCH = 2**22
"""Numbers in one thread's sums of curvatures."""
ROUNDING = 1e-6
"""Eigenvalues, and lengths of new directions, below this share of the largest are rounding."""


@dataclass(frozen=True)
class QuadraticForm:
    """Gradient descent and ridge regression on the quadratic form of a subset's loss.

    Attributes:
        start: sums at the weights that runs start from.
        rates: what the recipe does in each step.
        etas: [E], effective peak learning rates in units of the features.
        ridges: C ridges.
    """

    start: RunStart
    rates: RunRates
    etas: FloatArray
    ridges: Sequence[Ridge]

    def weights(self, memberships: FloatArray) -> FloatArray:
        """Return the weights [m, E + C, d] of subsets, for weights [m, n + 1] of the tasks, 0 or 1."""
        d = self.start.gradient.shape[1]
        pieces = [memberships[part] for part in slices(len(memberships), max(1, SUM_BATCH // d**2))]
        return np.concatenate(in_threads(self._weights, pieces))

    def _weights(self, memberships: FloatArray) -> FloatArray:
        start, shares = self.start, self.rates.task_shares(memberships)
        tasks, d = start.gradient.shape
        curvature = scratch("curvature", (len(shares), d, d), start.curvature.dtype)
        flat = start.curvature.reshape(tasks, -1)
        np.matmul(shares.astype(flat.dtype), flat, out=curvature.reshape(len(shares), -1))
        spaces = [krylov(*pair) for pair in zip(curvature, shares @ start.gradient, strict=True)]
        basis, projected, norms = (np.stack(parts) for parts in zip(*spaces, strict=True))
        values, vectors = np.linalg.eigh(projected)
        rows = memberships @ start.counts
        ridges = np.stack([ridge.of_rows(rows) / rows for ridge in self.ridges], axis=1)
        filters = self._filters(values, self.rates.steps(memberships), ridges)
        filtered = filters * (vectors[:, :1] * norms[:, None, None])
        weights: FloatArray = -(filtered @ vectors.swapaxes(1, 2)) @ basis
        return weights

    def _filters(self, values: FloatArray, steps: FloatArray, ridges: FloatArray) -> FloatArray:
        """Return f at eigenvalues [m, K], [m, E + C, K], for steps [m, T] and ridges of the mean loss [m, C]."""
        floor = ROUNDING * np.maximum(values.max(axis=1, keepdims=True), np.finfo(float).tiny)
        values = np.maximum(values, floor)
        kept = np.ones((len(values), len(self.etas), values.shape[1]))
        for size in steps.T:
            kept *= np.maximum(1 - size[:, None, None] * self.etas[:, None] * values[:, None], -1)
        descent = (1 - kept) / values[:, None]
        return np.concatenate([descent, 1 / (values[:, None] + ridges[:, :, None])], axis=1)


def krylov(curvature: StoredArray, gradient: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Return basis [K, d], projected curvature [K, K] and the gradient's norm; directions that end are zero."""
    norm = float(np.linalg.norm(gradient))
    count = min(KRYLOV, len(gradient))
    basis = np.zeros((count, len(gradient)))
    projected = np.zeros((count, count))
    direction = gradient / norm if norm > 0 else gradient
    for index in range(count):
        basis[index] = direction
        product = (curvature @ direction.astype(curvature.dtype)).astype(np.float64)
        length = np.linalg.norm(product)
        for _ in range(2):
            overlap = basis[: index + 1] @ product
            product -= overlap @ basis[: index + 1]
            projected[: index + 1, index] += overlap
            projected[index, : index + 1] = projected[: index + 1, index]
        rest = np.linalg.norm(product)
        if rest <= ROUNDING * length:
            break
        direction = product / rest
    return basis, projected, norm
