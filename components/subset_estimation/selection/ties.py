"""Subsets that the estimates cannot tell from the chosen one."""

from collections.abc import Mapping

import numpy as np

from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

MAX_TIES = 5


def near_ties(
    ledger: EstimateLedger, chosen: BoolArray, others: Mapping[str, BoolArray]
) -> dict[str, BoolArray]:
    """Return those of the other subsets [n], by name, that may be as good as the chosen one [n].

    Their estimate is lower, or higher by no more than the standard error of the difference, in which the errors
    that both share cancel. At most `MAX_TIES` are returned, those with the lowest estimates first, and each
    subset once, under its first name.
    """
    distinct = {chosen.tobytes(): ""}
    for name, mask in others.items():
        distinct.setdefault(mask.tobytes(), name)
    names = [name for name in distinct.values() if name]
    if not names:
        return {}
    losses = ledger.losses(np.stack([chosen, *(others[name] for name in names)]), "ties")
    excess = losses.combine(np.column_stack([-np.ones(len(names)), np.eye(len(names))])).estimates()
    order = np.argsort(excess.loss, kind="stable")
    ties = [names[index] for index in order if excess.loss[index] <= excess.standard_error[index]]
    return {name: others[name] for name in ties[:MAX_TIES]}
