"""The mixture of estimates: simulated runs at several learning rates, and ridge regressions, from one start.

All members have the same margins at the start. A member is a rule for the weights and a choice of features, and its
estimate is the loss of the validation rows at these weights. Features are gradients at theta* alone or, where a
second store exists, also blends with those at the base weights. Without runs the mixture is the plain mean of its
members.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.subset_estimation.estimators.learning_rates import FACTORS, stable_stride
from gradsift.components.subset_estimation.estimators.logistic import Logistic
from gradsift.components.subset_estimation.estimators.quadratic_form import QuadraticForm
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.estimators.run_rates import RunRates
from gradsift.components.subset_estimation.estimators.simulated import Simulated
from gradsift.components.subset_estimation.estimators.validation_loss import Evaluation, evaluation_at
from gradsift.components.subset_estimation.statistics.run_start import RunStart
from gradsift.components.subset_estimation.statistics.task_statistics import (
    BoolArray,
    TaskStatistics,
    TrainRows,
)
from gradsift.components.subset_estimation.statistics.threads import in_threads, slices

SUBSET_BATCH = 32
RIDGES = (1.0, 3.0)
"""Ridges of the members, in units of the mean curvature of a train row at theta* (see `ridge`)."""
MEMBERS = (*(f"rate x{factor:g}" for factor in FACTORS), *(f"ridge {ridge:g}" for ridge in RIDGES))
"""The members of one set of features."""


class Members:
    """Estimates losses of subsets by every member that has one set of features.

    Where labels of several tokens are the answer, the ridges are taken by their quadratic form.

    Attributes:
        evaluation: the validation rows at the start.
        names: [J], what the members are called.
    """

    def __init__(
        self,
        statistics: TaskStatistics,
        start: RunStart,
        recipe: TrainingRecipe,
        rates: FloatArray,
        ridges: Sequence[Ridge],
    ) -> None:
        """Prepare the members.

        Args:
            statistics: names and rows of the tasks.
            start: what runs start from.
            recipe: the recipe of the runs.
            rates: [E], effective learning rates in these columns (see `learning_rates`).
            ridges: the ridges in these columns.
        """
        self.evaluation: Evaluation = evaluation_at(start)
        self.names = MEMBERS if start.alpha == 1 else [f"{name}, alpha {start.alpha:g}" for name in MEMBERS]
        self._statistics, self._start, self._ridges = statistics, start, ridges
        self._run = RunRates(recipe, start.counts)
        self._quadratic = QuadraticForm(start, self._run, rates, ridges)
        coarse = replace(self._run, stride=stable_stride(start, float(rates.max())))
        self._simulated = Simulated(start.rows, coarse, rates)
        self._logistic = [Logistic(statistics, _train_rows(start), ridge) for ridge in ridges]

    def row_losses(self, masks: BoolArray, shares: FloatArray) -> FloatArray:
        """Return the sum over the members, by their shares [J], of every row's loss, [m, V], for subsets [m, n]."""
        mixed = partial(_mixed, self.evaluation, shares)
        return np.concatenate(in_threads(mixed, self._pieces(self._weights(masks))))

    def losses(self, masks: BoolArray) -> FloatArray:
        """Return each member's mean loss over the validation rows, [J, m], for subsets [m, n]."""
        return self._mean_losses(self._weights(masks))

    def search_losses(self, masks: BoolArray) -> FloatArray:
        """Return `losses` by the members' quadratic forms, at a cost that no row adds to."""
        return self._mean_losses(self._quadratic.weights(self._statistics.memberships(masks)))

    def _weights(self, masks: BoolArray) -> FloatArray:
        """Return each member's weights [m, J, d]."""
        memberships = self._statistics.memberships(masks)
        return np.concatenate(
            [self._simulated.weights(memberships), self._ridge_weights(memberships)], axis=1
        )

    def _ridge_weights(self, memberships: FloatArray) -> FloatArray:
        """Return the weights [m, C, d] of the ridge regressions."""
        if (self._start.rows.positions != 1).any():
            return self._quadratic.weights(memberships)[:, -len(self._ridges) :]
        rows = memberships @ self._start.counts
        held = np.diff(self._start.rows.starts)
        sums = rows[:, None] * self._run.task_shares(memberships) / held
        pairs = zip(self._logistic, self._ridges, strict=True)
        return np.stack([logistic.minima(sums, ridge.of_rows(rows)) for logistic, ridge in pairs], axis=1)

    def _mean_losses(self, weights: FloatArray) -> FloatArray:
        flat = [part.reshape(-1, part.shape[-1]) for part in self._pieces(weights)]
        losses = np.concatenate(in_threads(self.evaluation.mean_losses, flat))
        return losses.reshape(weights.shape[:2]).T

    def _pieces(self, weights: FloatArray) -> list[FloatArray]:
        return [weights[part] for part in slices(len(weights), SUBSET_BATCH)]


class Mixture:
    """Mixes the estimates of members that have one set of features or several.

    Attributes:
        parts: the members of each set of features.
        evaluation: the validation rows at the start, with the features of the first part.
        shares: [J], the weight of each member; they sum to 1.
    """

    def __init__(self, parts: Sequence[Members]) -> None:
        """Give all members the same weight."""
        self.parts = parts
        self.evaluation: Evaluation = parts[0].evaluation
        self.shares = np.full(len(self.names), 1 / len(self.names))

    @property
    def names(self) -> list[str]:
        """What the members are called, [J]."""
        return [name for part in self.parts for name in part.names]

    def row_losses(self, masks: BoolArray) -> FloatArray:
        """Return the loss of every validation row [m, V] for subsets [m, n]."""
        shares = np.split(self.shares, len(self.parts))
        losses = [part.row_losses(masks, own) for part, own in zip(self.parts, shares, strict=True)]
        return np.sum(losses, axis=0)

    def mean_losses(self, masks: BoolArray) -> FloatArray:
        """Return the mean loss over the validation rows [m] for subsets [m, n]."""
        return self.shares @ self.member_losses(masks)

    def member_losses(self, masks: BoolArray) -> FloatArray:
        """Return each member's mean loss over the validation rows, [J, m], for subsets [m, n]."""
        return np.concatenate([part.losses(masks) for part in self.parts])

    def search_losses(self, masks: BoolArray) -> FloatArray:
        """Return mean losses [m] by the members' quadratic forms, at a cost that no row adds to."""
        return self.shares @ np.concatenate([part.search_losses(masks) for part in self.parts])


def _mixed(evaluation: Evaluation, shares: FloatArray, weights: FloatArray) -> FloatArray:
    losses = evaluation.row_losses(weights.reshape(-1, weights.shape[-1]))
    return np.einsum("j,mjv->mv", shares, losses.reshape(*weights.shape[:2], -1))


def _train_rows(start: RunStart) -> TrainRows:
    rows = start.rows
    return TrainRows(rows.starts, rows.margin, rows.base_margin, rows.feature, blocks=1)
