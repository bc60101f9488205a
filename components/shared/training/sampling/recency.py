"""A sampler by age alone: rows of an older period are drawn less often. It looks at no gradient."""

import math
from collections.abc import Mapping

from gradsift.components.shared.records.sampling_schedule import RoundShares

DECAY = 1.5
"""Periods in which the weight of a row falls to 1/e."""


def recency(rows: Mapping[str, int], periods: Mapping[str, str]) -> RoundShares:
    """Return shares by rows times exp(-age / 1.5), the age counted in the periods that there are.

    Args:
        rows: number of train rows of each task.
        periods: the period of each task that is of one, as texts that sort by time; other tasks count as new.
    """
    order = sorted(set(periods.values()), reverse=True)
    ages = {task: order.index(period) for task, period in periods.items()}
    weights = {task: count * math.exp(-ages.get(task, 0) / DECAY) for task, count in rows.items()}
    total = sum(weights.values())
    return RoundShares(shares={task: weight / total for task, weight in weights.items()})
