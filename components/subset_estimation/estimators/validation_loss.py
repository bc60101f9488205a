"""The loss of the target's validation rows at any weights, read off what the store holds of them: no model.

Where a class or a label is the answer, one choice decides a row: its loss is softplus of minus the margin of the
whole answer, over the number of tokens that the answer has, and the margin is linear in the weights (see
`margins`). Around theta*, rows that are answered by free text have the quadratic form
loss_v + g_v.w + 1/2 mean over probes of (u_v.w)^2. Around the weights that runs start from, which are further away,
they have one margin too, that of a token (see `run_start`): the quadratic form gives losses far below 0 there.
"""

from typing import Literal, Protocol

import numpy as np

from gradsift.components.shared.linear_model.margins import (
    FloatArray,
    cross_entropy,
    linear_margins,
)
from gradsift.components.subset_estimation.statistics.run_start import RunStart
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics

Form = Literal["cross_entropy", "quadratic"]


class Evaluation(Protocol):
    """Gives the losses of validation rows at many weights."""

    form: Form

    def row_losses(self, weights: FloatArray) -> FloatArray:
        """Return the loss of every row [m, V] at weights [m, d]."""

    def mean_losses(self, weights: FloatArray) -> FloatArray:
        """Return the mean loss [m] at weights [m, d]."""


class CrossEntropy:
    """Exact cross-entropy of linear margins of whole answers, a token."""

    form: Form = "cross_entropy"

    def __init__(self, offset: FloatArray, feature: FloatArray, positions: FloatArray) -> None:
        """Take the rows' margins [V], their gradients [V, d] and numbers of answer tokens [V]."""
        self.offset, self.feature, self.positions = offset, feature, positions

    def row_losses(self, weights: FloatArray) -> FloatArray:
        """Return the loss of every row [m, V] at weights [m, d]."""
        return cross_entropy(self.offset + weights @ self.feature.T) / self.positions

    def mean_losses(self, weights: FloatArray) -> FloatArray:
        """Return the mean loss [m] at weights [m, d]."""
        return self.row_losses(weights).mean(axis=1)


class Quadratic:
    """Losses to second order in the weights, with the curvature of the rows' own probes."""

    form: Form = "quadratic"

    def __init__(self, loss: FloatArray, gradient: FloatArray, probe: FloatArray) -> None:
        """Take the rows' losses [V], loss gradients [V, d] and probes [V, R, d] at the weights 0."""
        self.loss, self.gradient, self.probe = loss, gradient, probe
        flat = probe.reshape(-1, probe.shape[2])
        self.mean_gradient, self.mean_curvature = gradient.mean(axis=0), flat.T @ flat / len(flat)

    def row_losses(self, weights: FloatArray) -> FloatArray:
        """Return the loss of every row [m, V] at weights [m, d]."""
        rows, probes, d = self.probe.shape
        changes = (weights @ self.probe.reshape(-1, d).T).reshape(-1, rows, probes)
        losses: FloatArray = self.loss + weights @ self.gradient.T + np.mean(changes**2, axis=2) / 2
        return losses

    def mean_losses(self, weights: FloatArray) -> FloatArray:
        """Return the mean loss [m] at weights [m, d]."""
        curved = np.vecdot(weights @ self.mean_curvature, weights) / 2
        losses: FloatArray = self.loss.mean() + weights @ self.mean_gradient + curved
        return losses


def evaluation_of(statistics: TaskStatistics) -> Evaluation:
    """Return the form that the validation rows ask for, around theta*."""
    rows = statistics.validation_rows
    if rows is None:
        positions = statistics.validation_positions
        gradient = statistics.validation_gradient * positions[:, None]
        offset, feature = linear_margins(statistics.validation_margin, gradient)
        return CrossEntropy(offset, feature.astype(np.float64), positions)
    return Quadratic(rows.loss, statistics.validation_gradient, rows.probe)


def evaluation_at(start: RunStart) -> Evaluation:
    """Return the losses of the validation rows around the weights that runs start from."""
    return CrossEntropy(start.validation_margin, start.validation_feature, start.validation_positions)
