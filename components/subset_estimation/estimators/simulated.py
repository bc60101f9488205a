"""Simulated fine-tuning: trains the linear model of the margins as the product trains the network.

    margin_i(w) = b_i + x_i.w
    w_{t+1} = w_t + eta gamma_t sum_i q_i x_i / (1 + exp(margin_i(w_t))),    w_0 = 0,    t = 1..T

b_i is the margin at the weights that the run starts from, x_i its gradient at theta*, q_i the share of row i in
what the run draws, gamma_t the factors of the recipe's learning rate, and T its steps. Where the run starts at the
base weights, these are the outputs before training and the features after it ("after kernel").
"""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.linear_model.margins import (
    FloatArray,
    StoredArray,
    error_probability,
)
from gradsift.components.subset_estimation.estimators.run_rates import RunRates
from gradsift.components.subset_estimation.statistics.run_start import StartRows
from gradsift.components.subset_estimation.statistics.threads import in_threads, slices

MARGIN_BATCH = 2**20
"""Most margins in memory at a time, per thread: they should stay in the core's cache."""


@dataclass(frozen=True)
class Simulated:
    """Gradient descent on the rows of many subsets at once, with several learning rates.

    Attributes:
        rows: the train rows as a run finds them.
        rates: what the recipe does in each step.
        etas: [E], effective peak learning rates in units of the features.
    """

    rows: StartRows
    rates: RunRates
    etas: FloatArray

    def weights(self, memberships: FloatArray) -> FloatArray:
        """Return the weights [m, E, d] after the last step, for weights [m, n + 1] of the tasks, 0 or 1."""
        batch = max(1, MARGIN_BATCH // (len(self.etas) * len(self.rows.margin)))
        pieces = [memberships[part] for part in slices(len(memberships), batch)]
        return np.concatenate(in_threads(self._trained, pieces))

    def _trained(self, memberships: FloatArray) -> FloatArray:
        held = self.rows.of_tasks(np.asarray(memberships.any(axis=0)))
        dtype = held.feature.dtype
        shares = held.shares(self.rates.task_shares(memberships))[:, None, :].astype(dtype)
        sizes = (self.rates.steps(memberships)[:, None] * self.etas[:, None]).astype(dtype)
        weights = np.zeros((len(memberships), len(self.etas), held.feature.shape[1]), dtype)
        for size in np.moveaxis(sizes, -1, 0):
            weights += size[..., None] * _descent(weights, held, shares)
        return weights.astype(np.float64)


def _descent(weights: StoredArray, rows: StartRows, shares: StoredArray) -> StoredArray:
    """Return minus the gradient [m, E, d] of the mean loss at weights [m, E, d]."""
    flat = weights.reshape(-1, weights.shape[-1])
    wrong = error_probability(flat @ rows.feature.T + rows.margin).reshape(*weights.shape[:2], -1)
    wrong *= shares
    return (wrong.reshape(len(flat), -1) @ rows.feature).reshape(weights.shape)
