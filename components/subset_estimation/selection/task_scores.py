"""How much each auxiliary task lowers the estimated loss, with its standard error."""

import numpy as np

from gradsift.components.shared.records.search_plan import score_subsets
from gradsift.components.subset_estimation.estimators.uncertainty import Estimates, Losses, variance_of_mean
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray
from gradsift.components.subset_estimation.statistics.threads import slices

LOSSES_AT_ONCE = 64
"""Losses that are estimated together, with all validation rows of each; of many tasks, those of one subset."""


def task_scores(ledger: EstimateLedger, subsets: BoolArray) -> Estimates:
    """Return for every task the mean over subsets S of f(S without it) - f(S with it); positive helps.

    In nats. The standard error holds the sampling and projection errors of that mean (see `uncertainty`) and
    the error of taking few subsets.

    Args:
        ledger: gives the losses.
        subsets: [m, n], random subsets; the first of them are used (see `score_subsets`).
    """
    tasks = len(ledger.tasks)
    subsets = subsets[: score_subsets(tasks)]
    at_once = max(1, LOSSES_AT_ONCE // (tasks + 1))
    effects = [each for part in slices(len(subsets), at_once) for each in _effects(ledger, subsets[part])]
    mean = Losses(
        rows=np.mean([effect.rows for effect in effects], axis=0),
        blocks=np.mean([effect.blocks for effect in effects], axis=0),
    ).estimates()
    of_subsets = variance_of_mean(np.stack([effect.rows.mean(axis=1) for effect in effects], axis=1))
    return Estimates(mean.loss, np.hypot(mean.standard_error, np.sqrt(of_subsets)))


def _effects(ledger: EstimateLedger, subsets: BoolArray) -> list[Losses]:
    """Return f(S without i) - f(S with i) for every task i, given each of the subsets [m, n] with or without it."""
    count = subsets.shape[1]
    changes = np.vstack([np.zeros(count, bool), np.eye(count, dtype=bool)])
    losses = ledger.losses((subsets[:, None] ^ changes).reshape(-1, count), "task_scores")
    parts = slices(len(losses.rows), count + 1)
    signs = np.where(subsets, 1.0, -1.0)
    return [
        Losses(losses.rows[part], losses.blocks[part]).combine(np.column_stack([-sign, np.diag(sign)]))
        for part, sign in zip(parts, signs, strict=True)
    ]
