"""The estimated target validation loss of any subset: weights from a solver, losses on the validation rows."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.search_plan import SHORTLIST
from gradsift.components.subset_estimation.estimators.calibration import Line
from gradsift.components.subset_estimation.estimators.gauss_newton import GaussNewton
from gradsift.components.subset_estimation.estimators.learning_rates import learning_rates
from gradsift.components.subset_estimation.estimators.logistic import Logistic
from gradsift.components.subset_estimation.estimators.mixture import MEMBERS, RIDGES, Mixture
from gradsift.components.subset_estimation.estimators.mixture_fit import MixtureFit
from gradsift.components.subset_estimation.estimators.ridge import Ridge, ridge_of
from gradsift.components.subset_estimation.estimators.uncertainty import DECIMALS, Losses
from gradsift.components.subset_estimation.estimators.validation_loss import (
    Evaluation,
    Form,
    evaluation_of,
)
from gradsift.components.subset_estimation.statistics.margins import FloatArray
from gradsift.components.subset_estimation.statistics.run_start import RunStart
from gradsift.components.subset_estimation.statistics.start_reading import read_run_start
from gradsift.components.subset_estimation.statistics.store_reading import read_statistics, read_train_rows
from gradsift.components.subset_estimation.statistics.task_statistics import (
    BoolArray,
    IntArray,
    TaskStatistics,
    TrainRows,
)
from gradsift.components.subset_estimation.statistics.threads import in_threads, slices

SUBSET_BATCH = 64


class Solver(Protocol):
    """Finds the weights that fine-tuning on a subset leads to, in the projected space."""

    def weights(self, masks: BoolArray) -> FloatArray:
        """Return w_S [m, d] for subsets [m, n]."""


class Projection(Protocol):
    """Gives losses of the validation rows after fine-tuning on a subset, in one set of columns."""

    evaluation: Evaluation

    def row_losses(self, masks: BoolArray) -> FloatArray:
        """Return the loss of every validation row [m, V] for subsets [m, n]."""

    def mean_losses(self, masks: BoolArray) -> FloatArray:
        """Return the mean loss over the validation rows [m] for subsets [m, n]."""


class LossEstimator:
    """Estimates losses of subsets with all columns of the projection and with each block alone.

    The ridge is the same number for all: by what the projection preserves (inner products), a regression in
    more or fewer columns is then the same regression up to the projection's error.

    Attributes:
        statistics: what the estimates are made of.
        line: the scale that losses are given on, that of the linear model itself until calibration sets another.
    """

    def __init__(self, statistics: TaskStatistics, whole: Projection, blocks: Sequence[Projection]) -> None:
        """Take the estimates by all columns, and by each block alone where there are several."""
        self.statistics = statistics
        self.line = Line()
        self._whole = whole
        self._blocks = blocks

    @property
    def evaluation(self) -> Form:
        """The form of the validation rows' losses: `cross_entropy` or `quadratic` (see `validation_loss`)."""
        return self._whole.evaluation.form

    @property
    def members(self) -> dict[str, float]:
        """Weight of each member where the estimate is a mixture; they sum to 1."""
        return {}

    def losses(self, masks: BoolArray) -> Losses:
        """Return the losses of subsets [m, n] in full detail; takes 8 V bytes of memory a subset."""
        blocks = [self.line.of(block.mean_losses(masks)) for block in self._blocks]
        return Losses(
            rows=self.line.of(self._whole.row_losses(masks)),
            blocks=np.stack(blocks, axis=1) if blocks else np.zeros((len(masks), 0)),
        )

    def promising(self, masks: BoolArray) -> IntArray:
        """Return the indices of the subsets [m, n] that may have the lowest losses, in order: here all."""
        return np.arange(len(masks))

    def mean_losses(self, masks: BoolArray) -> FloatArray:
        """Return the estimated losses [m] of subsets [m, n] without what their standard errors need.

        They are those of `losses(masks).estimates()`, for less than the time and without its memory.
        """
        return np.round(self.line.of(self._whole.mean_losses(masks)), DECIMALS)


class SimulatedEstimator(LossEstimator):
    """The mixture of simulated runs and ridge regressions, which runs correct."""

    def __init__(self, statistics: TaskStatistics, whole: Mixture, blocks: Sequence[Mixture]) -> None:
        """Take the mixture in all columns, and in each block alone where there are several."""
        super().__init__(statistics, whole, blocks)
        self.mixtures = [whole, *blocks]

    @property
    def members(self) -> dict[str, float]:
        """Weight of each member; they sum to 1."""
        return dict(zip(MEMBERS, self.mixtures[0].shares.tolist(), strict=True))

    def member_losses(self, masks: BoolArray) -> FloatArray:
        """Return each member's estimates, [J, m], for subsets [m, n], on the scale of the linear model."""
        return self.mixtures[0].member_losses(masks)

    def promising(self, masks: BoolArray) -> IntArray:
        """Return the indices of the `SHORTLIST` subsets whose quadratic forms are the lowest, in order."""
        if len(masks) <= SHORTLIST:
            return super().promising(masks)
        order = self.mixtures[0].search_losses(masks).argsort(kind="stable")
        return np.sort(order[:SHORTLIST])

    def correct(self, fit: MixtureFit) -> None:
        """Give losses from now on as the runs correct them; a slope that is not positive corrects nothing."""
        if fit.slope > 0:
            self.line = Line(fit.slope, fit.intercept)
            for mixture in self.mixtures:
                mixture.shares = fit.shares


class SolvedProjection:
    """A solver and the validation rows it is judged on, in one set of columns."""

    def __init__(self, solver: Solver, evaluation: Evaluation) -> None:
        self.solver = solver
        self.evaluation = evaluation

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
        GradientStoreError: the store cannot be used (see `read_statistics`, `read_train_rows` and
            `open_simulated`).
    """
    if config.estimator == "simulated":
        return open_simulated(config, store)
    statistics = read_statistics(store)
    train = read_train_rows(store) if config.estimator == "logistic" else None
    return solved_estimator(config, statistics, train)


def solved_estimator(
    config: SubsetEstimationConfig, statistics: TaskStatistics, train: TrainRows | None
) -> LossEstimator:
    """Return the estimator of one ridge regression: `logistic` on the train rows, Gauss-Newton without them."""
    ridge = ridge_of(config, statistics)

    def projection(statistics: TaskStatistics, train: TrainRows | None, ridge: Ridge) -> Projection:
        solver = GaussNewton(statistics, ridge) if train is None else Logistic(statistics, train, ridge)
        return SolvedProjection(solver, evaluation_of(statistics))

    blocks = [
        projection(statistics.block(index), train and train.block(index), ridge.of_block(statistics.blocks))
        for index in _blocks(statistics)
    ]
    return LossEstimator(statistics, projection(statistics, train, ridge), blocks)


def open_simulated(config: SubsetEstimationConfig, store: GradientStore) -> SimulatedEstimator:
    """Read what the mixture of simulated runs needs of the store.

    Raises:
        GradientStoreError: the store cannot be used (see `read_statistics` and `simulated_estimator`).
    """
    statistics = read_statistics(store)
    return simulated_estimator(config, statistics, read_run_start(store, statistics, config.start))


def simulated_estimator(
    config: SubsetEstimationConfig, statistics: TaskStatistics, start: RunStart
) -> SimulatedEstimator:
    """Return the mixture of simulated fine-tuning runs and ridge regressions from one start.

    Raises:
        GradientStoreError: meta-training changed no margin, so that nothing is known of how far training goes.
    """
    blocks = statistics.blocks
    rates = learning_rates(start, config.fine_tuning, config.meta_training)
    ridges = [ridge_of(config.model_copy(update={"ridge": ridge}), statistics) for ridge in RIDGES]
    narrow = [ridge.of_block(blocks) for ridge in ridges]
    return SimulatedEstimator(
        statistics,
        Mixture(statistics, start, config.fine_tuning, rates, ridges),
        [
            Mixture(statistics, start.block(index), config.fine_tuning, rates * blocks, narrow)
            for index in _blocks(statistics)
        ],
    )


def _blocks(statistics: TaskStatistics) -> range:
    return range(statistics.blocks if statistics.blocks > 1 else 0)
