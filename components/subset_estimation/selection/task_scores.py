"""How much each auxiliary task lowers the estimated loss, with its standard error."""

import numpy as np

from gradsift.components.shared.records.search_plan import score_subsets
from gradsift.components.subset_estimation.estimators.uncertainty import Estimates, Losses, variance_of_mean
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray


def task_scores(ledger: EstimateLedger, subsets: BoolArray) -> Estimates:
    """Return for every task the mean over subsets S of f(S without it) - f(S with it); positive helps.

    In nats. The standard error holds the sampling and projection errors of that mean (see `uncertainty`) and
    the error of taking few subsets.

    Args:
        ledger: gives the losses.
        subsets: [m, n], random subsets; the first of them are used (see `score_subsets`).
    """
    subsets = subsets[: score_subsets(len(ledger.tasks))]
    effects = [_effects(ledger, subset) for subset in subsets]
    mean = Losses(
        rows=np.mean([effect.rows for effect in effects], axis=0),
        blocks=np.mean([effect.blocks for effect in effects], axis=0),
    ).estimates()
    of_subsets = variance_of_mean(np.stack([effect.rows.mean(axis=1) for effect in effects], axis=1))
    return Estimates(mean.loss, np.hypot(mean.standard_error, np.sqrt(of_subsets)))


def _effects(ledger: EstimateLedger, subset: BoolArray) -> Losses:
    """Return f(S without i) - f(S with i) for every task i, given the subset with or without it."""
    count = len(subset)
    neighbours = subset ^ np.eye(count, dtype=bool)
    sign = np.where(subset, 1.0, -1.0)
    return ledger.losses(np.vstack([subset, neighbours]), "task_scores").combine(
        np.column_stack([-sign, np.diag(sign)])
    )
