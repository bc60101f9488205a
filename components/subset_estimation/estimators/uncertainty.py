"""Estimated losses with their standard errors.

Two sources of error are measured. Sampling: the target's validation rows are a sample, so the mean over them
has the standard error s/sqrt(V) (what a bootstrap over the rows tends to, without its noise). Projection: the
B blocks of the projection are independent coarser projections, so the estimates from each alone, with
standard deviation s, give the standard error s/sqrt(B). Two subsets share both sources, so differences and
means are taken row by row and block by block, before the standard error.
"""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray

DECIMALS = 9
"""Losses and standard errors are rounded to 1e-9 nats, above the rounding of sums, so that ties are exact."""


@dataclass(frozen=True)
class Estimates:
    """Estimated losses [m] in nats and their standard errors [m]."""

    loss: FloatArray
    standard_error: FloatArray


@dataclass(frozen=True)
class Losses:
    """Estimated losses in full detail; sums and differences keep the errors that two subsets share.

    Attributes:
        rows: [m, V], loss of every validation row.
        blocks: [m, B], mean loss from every projection block alone; no column where there is one block only.
    """

    rows: FloatArray
    blocks: FloatArray

    def combine(self, weights: FloatArray) -> "Losses":
        """Return weighted sums [k] of the m losses for weights [k, m], such as a difference or a mean."""
        return Losses(weights @ self.rows, weights @ self.blocks)

    def estimates(self) -> Estimates:
        """Return the mean over validation rows and its standard error, for every subset."""
        variance: FloatArray = variance_of_mean(self.rows) + variance_of_mean(self.blocks)
        error: FloatArray = np.sqrt(variance)
        return Estimates(np.round(self.rows.mean(axis=1), DECIMALS), np.round(error, DECIMALS))


def variance_of_mean(values: FloatArray) -> FloatArray:
    """Return the variance [m] of the means over the columns of [m, k], 0 where there are fewer than two."""
    count = values.shape[1]
    if count < 2:
        return np.zeros(len(values))
    variance: FloatArray = values.var(axis=1, ddof=1) / count
    return variance
