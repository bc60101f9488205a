"""The estimated target validation loss of any subset: weights from a solver, losses on the validation rows."""

from typing import Protocol

import numpy as np

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.calibration import Line
from gradsift.components.subset_estimation.estimators.gauss_newton import GaussNewton
from gradsift.components.subset_estimation.estimators.logistic import Logistic
from gradsift.components.subset_estimation.estimators.ridge import Ridge, ridge_of
from gradsift.components.subset_estimation.estimators.uncertainty import DECIMALS, Losses
from gradsift.components.subset_estimation.estimators.validation_loss import Form, evaluation_of
from gradsift.components.subset_estimation.statistics.margins import FloatArray
from gradsift.components.subset_estimation.statistics.store_reading import read_statistics, read_train_rows
from gradsift.components.subset_estimation.statistics.task_statistics import (
    BoolArray,
    TaskStatistics,
    TrainRows,
)
from gradsift.components.subset_estimation.statistics.threads import in_threads, slices

SUBSET_BATCH = 64


class Solver(Protocol):
    """Finds the weights that fine-tuning on a subset leads to, in the projected space."""

    def weights(self, masks: BoolArray) -> FloatArray:
        """Return w_S [m, d] for subsets [m, n]."""


class LossEstimator:
    """Estimates losses of subsets with all columns of the projection and with each block alone.

    The ridge is the same number for all: by what the projection preserves (inner products), a regression in
    more or fewer columns is then the same regression up to the projection's error.

    Attributes:
        statistics: what the estimates are made of.
        line: the scale that losses are given on, that of the linear model itself until calibration sets another.
    """

    def __init__(
        self, config: SubsetEstimationConfig, statistics: TaskStatistics, train: TrainRows | None
    ) -> None:
        """Prepare the solvers; `train` is needed by the logistic estimator and None for Gauss-Newton."""
        ridge = ridge_of(config, statistics)
        self.statistics = statistics
        self.line = Line()
        self._whole = _Projection(statistics, train, ridge)
        self._blocks = [
            _Projection(
                statistics.block(index),
                train.block(index) if train else None,
                ridge.of_block(statistics.blocks),
            )
            for index in range(statistics.blocks if statistics.blocks > 1 else 0)
        ]

    @property
    def evaluation(self) -> Form:
        """The form of the validation rows' losses: `cross_entropy` or `quadratic` (see `validation_loss`)."""
        return self._whole.evaluation.form

    def losses(self, masks: BoolArray) -> Losses:
        """Return the losses of subsets [m, n] in full detail; takes 8 V bytes of memory a subset."""
        blocks = [self.line.of(block.mean_losses(masks)) for block in self._blocks]
        return Losses(
            rows=self.line.of(self._whole.row_losses(masks)),
            blocks=np.stack(blocks, axis=1) if blocks else np.zeros((len(masks), 0)),
        )

    def mean_losses(self, masks: BoolArray) -> FloatArray:
        """Return the estimated losses [m] of subsets [m, n] without what their standard errors need.

        They are those of `losses(masks).estimates()`, for less than the time and without its memory.
        """
        return np.round(self.line.of(self._whole.mean_losses(masks)), DECIMALS)


class _Projection:
    """A solver and the validation rows it is judged on, in one set of columns."""

    def __init__(self, statistics: TaskStatistics, train: TrainRows | None, ridge: Ridge) -> None:
        self.solver: Solver = (
            GaussNewton(statistics, ridge) if train is None else Logistic(statistics, train, ridge)
        )
        self.evaluation = evaluation_of(statistics)

    def row_losses(self, masks: BoolArray) -> FloatArray:
        """Return the loss of every validation row [m, V] for subsets [m, n]."""
        return np.concatenate(in_threads(self.evaluation.row_losses, self._weights(masks)))

    def mean_losses(self, masks: BoolArray) -> FloatArray:
        """Return the mean loss over the validation rows [m] for subsets [m, n]."""
        return np.concatenate(in_threads(self.evaluation.mean_losses, self._weights(masks)))

    def _weights(self, masks: BoolArray) -> list[FloatArray]:
        weights = self.solver.weights(masks)
        return [weights[part] for part in slices(len(weights), SUBSET_BATCH)]


def open_estimator(config: SubsetEstimationConfig, store: GradientStore) -> LossEstimator:
    """Read what the configured estimator needs of the store.

    Raises:
        GradientStoreError: the store cannot be used (see `read_statistics` and `read_train_rows`).
    """
    statistics = read_statistics(store)
    train = read_train_rows(store) if config.estimator == "logistic" else None
    return LossEstimator(config, statistics, train)
