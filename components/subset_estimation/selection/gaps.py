"""The estimated gap between two groups of validation rows for any subset, and a limit on it.

Where one of two labels is the answer, a row's loss is minus the logarithm of the right label's probability. So its
estimated loss gives the estimated probability of the favourable label. The gap is the group's mean probability
minus that of the others. It ranks subsets; its size is as uncertain as the level of the estimated losses.
"""

import numpy as np

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.two_groups import target_groups
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.subset_estimation.estimators.loss_estimator import LossEstimator
from gradsift.components.subset_estimation.selection.selection import LossSource
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, IntArray
from gradsift.components.subset_estimation.statistics.threads import slices

SUBSET_BATCH = 512


class EstimatedGaps:
    """Gives the gaps of subsets, each computed once.

    Attributes:
        limit: the largest gap, on either side of zero, that a choice may have; 0 for no limit.
    """

    def __init__(
        self, estimator: LossEstimator, members: FloatArray, deserving: BoolArray, limit: float
    ) -> None:
        """Take the estimator and its validation rows.

        Args:
            estimator: gives the losses of the rows.
            members: 1 for a row of the group, 0 for one of the others, NaN for one without any group [V].
            deserving: whether the favourable label is the right one [V].
            limit: see `EstimatedGaps`.
        """
        self.limit = limit
        self._estimator = estimator
        self._deserving = deserving
        group, others = members == 1, members == 0
        self._contrast = group / max(group.sum(), 1) - others / max(others.sum(), 1)
        self._gaps: dict[bytes, float] = {}

    def of(self, masks: BoolArray) -> FloatArray:
        """Return the gaps [m] of subsets [m, n]."""
        new = list({mask.tobytes(): mask for mask in masks if mask.tobytes() not in self._gaps}.values())
        for part in slices(len(new), SUBSET_BATCH):
            some = np.stack(new[part])
            right = np.exp(-np.maximum(self._estimator.row_losses(some), 0.0))
            favoured = np.where(self._deserving, right, 1 - right)
            gaps = favoured @ self._contrast
            self._gaps |= {mask.tobytes(): float(gap) for mask, gap in zip(some, gaps, strict=True)}
        return np.array([self._gaps[mask.tobytes()] for mask in masks])

    def permit(self, masks: BoolArray) -> BoolArray:
        """Return which subsets [m, n] keep to the limit, as [m]."""
        if not self.limit or not len(masks):
            return np.ones(len(masks), bool)
        permitted: BoolArray = np.abs(self.of(masks)) <= self.limit
        return permitted

    def check(self, mask: BoolArray) -> None:
        """Check that a search ended at a subset [n] that keeps to the limit.

        Raises:
            InputError: no subset that it looked at does.
        """
        if not self.permit(mask[None])[0]:
            smallest = min(abs(gap) for gap in self._gaps.values())
            raise InputError(
                f"Parameter fairness_limit_estimate is {self.limit}: expected {smallest:.4f} or more, the smallest "
                f"estimated gap of the {len(self._gaps):,} subsets that were looked at."
            )


class LimitedLosses:
    """Losses of subsets, infinite where a gap is above the limit."""

    def __init__(self, losses: LossSource, gaps: EstimatedGaps) -> None:
        self._losses = losses
        self._gaps = gaps

    def mean_losses(self, masks: BoolArray, source: str) -> FloatArray:
        """Return the estimated losses [m] of subsets [m, n]."""
        losses = self._losses.mean_losses(masks, source)
        return np.where(self._gaps.permit(masks), losses, np.inf)

    def promising(self, masks: BoolArray) -> IntArray:
        """Return the indices of those subsets [m, n] within the limit that may have the lowest losses, in order."""
        permitted = np.flatnonzero(self._gaps.permit(masks))
        return permitted[self._losses.promising(masks[permitted])] if len(permitted) else permitted


def open_gaps(
    fairness: FairnessConfig, estimator: LossEstimator, store: GradientStore, data: PreparedData
) -> EstimatedGaps:
    """Return the gaps of a group that the target's validation rows have.

    Args:
        fairness: the group, the favourable label and the limit.
        estimator: estimates losses from the store.
        store: the gradient store, whose validation rows are those of the estimator.
        data: the prepared data, which the store was made of.

    Raises:
        InputError: the groups of the target's rows cannot be compared.
    """
    groups, rows = target_groups(fairness, data, "val"), data.split(data.target, "val")
    place = {example_id: row for row, example_id in enumerate(rows["id"][:])}
    order = [place[each] for shard in store.read(data.target, "val") for each in shard.example_id]
    deserving = np.array(rows["label"][:]) == groups.positive
    return EstimatedGaps(estimator, groups.members[order], deserving[order], fairness.limit_estimate)
