"""The estimated target validation loss of any subset: weights from a solver, losses on the validation rows."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.search_plan import SHORTLIST
from gradsift.components.subset_estimation.estimators.calibration import Line
from gradsift.components.subset_estimation.estimators.gauss_newton import GaussNewton
from gradsift.components.subset_estimation.estimators.learning_rates import learning_rates
from gradsift.components.subset_estimation.estimators.logistic import Logistic
from gradsift.components.subset_estimation.estimators.mixture import RIDGES, Members, Mixture
from gradsift.components.subset_estimation.estimators.mixture_fit import MixtureFit
from gradsift.components.subset_estimation.estimators.ridge import Ridge, ridge_of
from gradsift.components.subset_estimation.estimators.uncertainty import DECIMALS, Losses
from gradsift.components.subset_estimation.estimators.validation_loss import (
    Evaluation,
    Form,
    evaluation_of,
)
from gradsift.components.subset_estimation.statistics.run_start import RunStart
from gradsift.components.subset_estimation.statistics.start_reading import Blend, read_run_start
from gradsift.components.subset_estimation.statistics.store_reading import read_statistics, read_train_rows
from gradsift.components.subset_estimation.statistics.task_statistics import (
    BoolArray,
    IntArray,
    TaskStatistics,
    TrainRows,
)
from gradsift.components.subset_estimation.statistics.threads import in_threads, slices

SUBSET_BATCH = 64
ALPHAS = (0.75, 0.5)
"""Shares of theta* in blended features, beside theta* alone."""


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
            rows=self.row_losses(masks),
            blocks=np.stack(blocks, axis=1) if blocks else np.zeros((len(masks), 0)),
        )

    def row_losses(self, masks: BoolArray) -> FloatArray:
        """Return the loss of every validation row [m, V] for subsets [m, n]."""
        return self.line.of(self._whole.row_losses(masks))

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
        return dict(zip(self.mixtures[0].names, self.mixtures[0].shares.tolist(), strict=True))

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


def open_estimator(
    config: SubsetEstimationConfig, store: GradientStore, base: GradientStore | None = None
) -> LossEstimator:
    """Read what the configured estimator needs of the store.

    Args:
        config: the settings.
        store: the store at theta*.
        base: the store of the same rows at the base weights, which `simulated` blends in where there is one.

    Raises:
        GradientStoreError: the store cannot be used (see `read_statistics`, `read_train_rows` and
            `open_simulated`).
    """
    if config.estimator == "simulated":
        return open_simulated(config, store, base)
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


def open_simulated(
    config: SubsetEstimationConfig, store: GradientStore, base: GradientStore | None = None
) -> SimulatedEstimator:
    """Read what the mixture of simulated runs needs of the store, and of `base` where they can be blended.

    Raises:
        GradientStoreError: the store cannot be used (see `read_statistics` and `simulated_estimator`), or `base`
            cannot be blended with it.
    """
    statistics = read_statistics(store)
    blends: list[Blend | None] = [None]
    if base is not None and can_blend(config):
        blends += [Blend(base, alpha) for alpha in ALPHAS]
    starts = [read_run_start(store, statistics, config.start, blend) for blend in blends]
    return simulated_estimator(config, statistics, starts)


def can_blend(config: SubsetEstimationConfig) -> bool:
    """Say whether gradients at the base weights have a use in `simulated`: they do where runs start there."""
    return config.start == "base"


def simulated_estimator(
    config: SubsetEstimationConfig, statistics: TaskStatistics, starts: Sequence[RunStart]
) -> SimulatedEstimator:
    """Return the mixture of simulated fine-tuning runs and ridge regressions from one start.

    Args:
        config: the settings.
        statistics: names and rows of the tasks, and the curvature that ridges are counted in.
        starts: the start with one set of features or several.

    Raises:
        GradientStoreError: meta-training changed no margin, so that nothing is known of how far training goes.
    """
    blocks, recipe = statistics.blocks, config.fine_tuning
    rates = [learning_rates(start, recipe, config.meta_training) for start in starts]
    ridges = [ridge_of(config.model_copy(update={"ridge": ridge}), statistics) for ridge in RIDGES]
    narrow = [ridge.of_block(blocks) for ridge in ridges]
    pairs = list(zip(starts, rates, strict=True))
    whole = Mixture([Members(statistics, start, recipe, own, ridges) for start, own in pairs])
    by_block = [
        Mixture(
            [Members(statistics, start.block(index), recipe, own * blocks, narrow) for start, own in pairs]
        )
        for index in _blocks(statistics)
    ]
    return SimulatedEstimator(statistics, whole, by_block)


def _blocks(statistics: TaskStatistics) -> range:
    return range(statistics.blocks if statistics.blocks > 1 else 0)
