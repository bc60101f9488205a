"""The estimated target validation loss of any subset: weights from a solver, losses on the validation rows.

The loss is read off the linearised margins of the target's validation rows, mean softplus(-(b_v + m_v.w_S)),
which needs no model and no forward pass.
"""

from typing import Protocol

import numpy as np

from gradsift.components.shared.gradient_store import GradientStore
from gradsift.components.subset_estimation.config import SubsetEstimationConfig
from gradsift.components.subset_estimation.gauss_newton import GaussNewton
from gradsift.components.subset_estimation.logistic import Logistic
from gradsift.components.subset_estimation.margins import FloatArray, cross_entropy, linear_margins
from gradsift.components.subset_estimation.ridge import Ridge, ridge_of
from gradsift.components.subset_estimation.task_statistics import (
    BoolArray,
    TaskStatistics,
    TrainRows,
    read_statistics,
    read_train_rows,
)
from gradsift.components.subset_estimation.uncertainty import Losses


class Solver(Protocol):
    """Finds the weights that fine-tuning on a subset leads to, in the projected space."""

    subsets_at_once: int

    def weights(self, masks: BoolArray) -> FloatArray:
        """Return w_S [m, d] for at most `subsets_at_once` subsets [m, n]."""


class LossEstimator:
    """Estimates losses of subsets with all columns of the projection and with each block alone.

    The ridge is the same number for all: by what the projection preserves (inner products), a regression in
    more or fewer columns is then the same regression up to the projection's error.
    """

    def __init__(
        self, config: SubsetEstimationConfig, statistics: TaskStatistics, train: TrainRows | None
    ) -> None:
        """Prepare the solvers; `train` is needed by the logistic estimator and None for Gauss-Newton."""
        ridge = ridge_of(config, statistics)
        self.statistics = statistics
        self._whole = _Projection(statistics, train, ridge)
        self._blocks = [
            _Projection(statistics.block(index), train.block(index) if train else None, ridge)
            for index in range(statistics.blocks if statistics.blocks > 1 else 0)
        ]

    def losses(self, masks: BoolArray) -> Losses:
        """Return the losses of subsets [m, n]; takes 8 V bytes of memory a subset."""
        blocks = [block.row_losses(masks).mean(axis=1) for block in self._blocks]
        return Losses(
            rows=self._whole.row_losses(masks),
            blocks=np.stack(blocks, axis=1) if blocks else np.zeros((len(masks), 0)),
        )


class _Projection:
    """A solver and the validation rows it is judged on, in one set of columns."""

    def __init__(self, statistics: TaskStatistics, train: TrainRows | None, ridge: Ridge) -> None:
        self.solver: Solver = (
            GaussNewton(statistics, ridge) if train is None else Logistic(statistics, train, ridge)
        )
        self.offset, self.feature = linear_margins(
            statistics.validation_margin, statistics.validation_gradient
        )

    def row_losses(self, masks: BoolArray) -> FloatArray:
        """Return the loss of every validation row [m, V] for subsets [m, n]."""
        at_once = self.solver.subsets_at_once
        weights = [self.solver.weights(masks[i : i + at_once]) for i in range(0, len(masks), at_once)]
        return cross_entropy(self.offset + np.concatenate(weights) @ self.feature.T)


def open_estimator(config: SubsetEstimationConfig, store: GradientStore) -> LossEstimator:
    """Read what the configured estimator needs of the store.

    Raises:
        GradientStoreError: the store cannot be used (see `read_statistics`).
    """
    statistics = read_statistics(store)
    train = read_train_rows(store) if config.estimator == "logistic" else None
    return LossEstimator(config, statistics, train)
