"""The linear datamodeling score: how well estimated losses rank subsets (Park et al. 2023, arXiv 2303.14186)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BOOTSTRAP = 1000
MIN_SUBSETS = 5
"""Fewer subsets cannot tell a rank correlation from chance."""


@dataclass(frozen=True)
class ComparedRun:
    """A fine-tuned subset beside its estimate.

    Attributes:
        subset: the auxiliary tasks.
        true_loss: target validation loss after fine-tuning, in nats.
        estimated_loss: the estimate, made without this subset's own runs.
    """

    subset: Sequence[str]
    true_loss: float
    estimated_loss: float


@dataclass(frozen=True)
class RankAgreement:
    """How well estimates rank subsets that were fine-tuned.

    Attributes:
        subsets: number of distinct subsets.
        lds: Spearman's rank correlation of estimated and true losses over them.
        low: lower end of its 95% bootstrap interval over subsets.
        high: upper end.
    """

    subsets: int
    lds: float
    low: float
    high: float


def rank_agreement(runs: Iterable[ComparedRun]) -> RankAgreement | None:
    """Return how well estimates rank the runs' subsets, or None where that cannot be known.

    Runs of one subset, such as several seeds, count as one: their mean. Fewer than `MIN_SUBSETS` distinct subsets,
    or equal losses on either side, say nothing.
    """
    pairs = defaultdict(list)
    for run in runs:
        pairs[frozenset(run.subset)].append((run.estimated_loss, run.true_loss))
    if len(pairs) < MIN_SUBSETS:
        return None
    estimates, true = np.array([np.mean(own, axis=0) for own in pairs.values()]).T
    if np.ptp(estimates) == 0 or np.ptp(true) == 0:
        return None
    return RankAgreement(len(pairs), float(spearman(estimates, true)), *spearman_interval(estimates, true))


def spearman(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return rank correlations along the last axis [..., M] -> [...], 0 where either side is constant."""
    ranks = [rankdata(each, axis=-1) - (each.shape[-1] + 1) / 2 for each in (one, other)]
    spread = np.sqrt((ranks[0] ** 2).sum(axis=-1) * (ranks[1] ** 2).sum(axis=-1))
    products = (ranks[0] * ranks[1]).sum(axis=-1)
    return np.divide(products, spread, out=np.zeros_like(spread), where=spread > 0)


def spearman_interval(estimates: FloatArray, true: FloatArray, seed: int = 0) -> tuple[float, float]:
    """Return the 95% bootstrap interval over subsets [M] of Spearman's correlation."""
    own = resamples(len(true), seed)
    return interval(spearman(estimates[own], true[own]))


def resamples(subsets: int, seed: int) -> IntArray:
    """Return the indices [BOOTSTRAP, subsets] of bootstrap samples of the subsets."""
    return np.random.default_rng(seed).integers(subsets, size=(BOOTSTRAP, subsets))


def interval(drawn: FloatArray) -> tuple[float, float]:
    """Return the ends of the 95% interval of drawn values."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
