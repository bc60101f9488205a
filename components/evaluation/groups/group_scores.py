"""Scores of the rows of a group and of the others: shares, gaps and the decision boundary covariance."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.metrics.scores import FloatArray, Metrics
from gradsift.components.shared.parameters.fairness import Space
from gradsift.components.shared.records.run_answers import HeldOutAnswers

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroupScores:
    """A run's answers to rows that each have a group; an answer is one of two labels.

    Attributes:
        members: whether a row is of the group [n_rows].
        favoured: whether the favourable label was given [n_rows].
        deserving: whether that label is the right one [n_rows].
        decisions: d, the margin or the probability of the favourable label [n_rows].
    """

    members: BoolArray
    favoured: BoolArray
    deserving: BoolArray
    decisions: FloatArray

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.members)

    def weighted(self, weights: FloatArray) -> Metrics:
        """Return all metrics under row weights [samples, n_rows]; NaN where all rows of a metric have weight 0.

        A gap is the group's share minus that of the others: of the rows that were given the favourable label
        (`parity_gap`), among those that deserve it (`true_positive_gap`) and those that do not
        (`false_positive_gap`). `covariance` is E[(z - E z) d], which is E z (1 - E z) times the mean of d over the
        group minus that over the others.
        """
        inside, outside = self.members, ~self.members
        right = self.favoured == self.deserving
        share = _mean(weights, self.members, np.ones_like(inside))
        means = {
            "accuracy": _mean(weights, right, np.ones_like(inside)),
            "accuracy_group": _mean(weights, right, inside),
            "accuracy_others": _mean(weights, right, outside),
            "favoured_group": _mean(weights, self.favoured, inside),
            "favoured_others": _mean(weights, self.favoured, outside),
        }
        return {
            **means,
            "parity_gap": means["favoured_group"] - means["favoured_others"],
            "true_positive_gap": self._gap(weights, self.deserving),
            "false_positive_gap": self._gap(weights, ~self.deserving),
            "covariance": share
            * (1 - share)
            * (_mean(weights, self.decisions, inside) - _mean(weights, self.decisions, outside)),
        }

    def _gap(self, weights: FloatArray, among: BoolArray) -> FloatArray:
        """Return the group's share of favoured rows minus that of the others, among some rows, [samples]."""
        of_group = _mean(weights, self.favoured, among & self.members)
        return of_group - _mean(weights, self.favoured, among & ~self.members)


def group_scores(
    answers: HeldOutAnswers, right: npt.NDArray[np.int64], positive: int, members: FloatArray, space: Space
) -> GroupScores:
    """Return the scores of a model's answers, for the rows that have a group.

    Args:
        answers: log-probabilities of the two labels.
        right: index of the right label of each row [n_test].
        positive: index of the favourable label.
        members: 1 for rows of the group, 0 for others, NaN for rows without any [n_test].
        space: what d is: the `margin` between both labels' scores or the favourable one's `probability`.
    """
    assert answers.labels is not None
    known = ~np.isnan(members)
    labels = answers.labels[known].astype(np.float64)
    margins = labels[:, positive] - labels[:, 1 - positive]
    return GroupScores(
        members=members[known] == 1,
        favoured=labels.argmax(1) == positive,
        deserving=right[known] == positive,
        decisions=margins if space == "margin" else np.exp(-np.logaddexp(0, -margins)),
    )


def _mean(weights: FloatArray, values: npt.NDArray[np.generic], among: BoolArray) -> FloatArray:
    """Return the weighted mean [samples] of values [n_rows] among some rows; NaN where their weights are 0."""
    total = weights @ among.astype(np.float64)
    sums: FloatArray = weights @ (values * among).astype(np.float64)
    return np.divide(sums, total, out=np.full_like(total, np.nan), where=total > 0)
