"""How close estimates of subsets come to their true losses, and how close they could come.

Estimates are judged as they are used: by the ranks they give, and on the scale of true losses after a line through
a few calibration runs (see `calibration`). The truth is itself a mean over training seeds and so has noise: no
estimate can rank better than another such truth would, by more than chance.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.metrics.lds import interval, resamples, spearman
from gradsift.components.subset_estimation.estimators.calibration import (
    best_candidate,
    fit_line,
    relative_error,
)
from gradsift.components.subset_estimation.estimators.mixture_fit import fit_mixture
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

SPLITS = 200
MAX_RUNS = 8


@dataclass(frozen=True)
class Calibrated:
    """How calibrated estimates do on subsets that they were not calibrated with; means over random splits.

    Attributes:
        error: mean relative error of estimates on a line through the calibration runs.
        constant: that of predicting the mean of the calibration runs.
        spearman: mean rank correlation on those subsets.
    """

    error: float
    constant: float
    spearman: float


@dataclass(frozen=True)
class NoiseCeiling:
    """What chance between training seeds leaves to be explained.

    Attributes:
        deviation: standard deviation of one run's loss between seeds of one subset, pooled, in nats.
        repeated: expected rank correlation of the truth (a mean over S seeds) with another one, over S other
            seeds: what "as good as training again" means.
        low: lower end of its 95% bootstrap interval over subsets.
        high: upper end.
        perfect: expected rank correlation of noise-free losses with the truth, sqrt(repeated): the most an
            estimate can reach.
    """

    deviation: float
    repeated: float
    low: float
    high: float
    perfect: float


def rank_correlations(estimates: FloatArray, true: FloatArray) -> tuple[float, float] | None:
    """Return Spearman's rho and Kendall's tau-b over subsets [M], or None where either side is constant."""
    if np.ptp(estimates) == 0 or np.ptp(true) == 0:
        return None
    return float(spearman(estimates, true)), float(kendalltau(estimates, true).statistic)


def calibrated(
    candidates: FloatArray, true: FloatArray, runs: int, splits: int = SPLITS, seed: int = 0
) -> Calibrated:
    """Calibrate with `runs` of the subsets and judge on the others, over random splits.

    Args:
        candidates: [C, M], estimates; of several candidates the runs choose one, as in the product.
        true: [M], true losses.
        runs: calibration runs a split, at least 3 and fewer than M.
        splits: random splits.
        seed: of the splits.
    """
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(splits):
        own, others = np.split(generator.permutation(len(true)), [runs])
        best = best_candidate(candidates[:, own], true[own]) if len(candidates) > 1 else 0
        line = fit_line(candidates[best, own], true[own])
        predicted, constant = line.of(candidates[best, others]), np.full(len(others), true[own].mean())
        errors = relative_error(predicted, true[others]), relative_error(constant, true[others])
        found.append([*errors, float(spearman(candidates[best, others], true[others]))])
    return Calibrated(*np.mean(found, axis=0).tolist())


def noise_ceiling(losses: FloatArray, seed: int = 0) -> NoiseCeiling | None:
    """Return the noise ceiling from losses [S, M] of M subsets with S seeds; None for one seed.

    The S seeds are halved in every way; the mean rank correlation r of two halves of h seeds, lengthened from h to
    S seeds by the Spearman-Brown formula, k r / (1 + (k - 1) r) with k = S/h, estimates the correlation of two
    whole truths (Spearman 1910, Brown 1910); an r below 0, chance alone, is left as it is. The correlation of
    noise-free losses with one truth is the square root of that.
    """
    if len(losses) < 2:
        return None
    deviation = float(np.sqrt(losses.var(axis=0, ddof=1).mean()))
    repeated = float(_split_half(losses))
    low, high = interval(_split_half(losses[:, resamples(losses.shape[1], seed)]))
    return NoiseCeiling(deviation, repeated, low, high, float(np.sqrt(max(repeated, 0.0))))


def regret(estimates: FloatArray, losses: FloatArray) -> FloatArray:
    """Return what choosing by training costs where subsets are trained in the order of their estimates.

    Runs begin with none and all, the first two subsets. With k more, the lowest true loss among them is the choice.
    Its regret is its loss less that of the best of all subsets. Where there are several seeds, the first chooses
    and the mean of the others judges, so that luck does not count.

    Args:
        estimates: [M], the lowest is trained first.
        losses: [S, M], true losses by seed; M is 3 or more.

    Returns:
        Regret [K] in nats with k = 1..K more runs, K at most `MAX_RUNS`.
    """
    chooses, judges = losses[0], losses[1:].mean(axis=0) if len(losses) > 1 else losses[0]
    order = np.argsort(estimates[2:], kind="stable") + 2
    found = []
    for runs in range(1, min(MAX_RUNS, len(order)) + 1):
        trained = np.concatenate([[0, 1], order[:runs]])
        found.append(judges[trained[chooses[trained].argmin()]] - judges.min())
    return np.array(found)


def random_regret(losses: FloatArray, seed: int = 0) -> FloatArray:
    """Return the mean of `regret` over random orders."""
    generator = np.random.default_rng(seed)
    orders = [regret(generator.permutation(losses.shape[1]).astype(float), losses) for _ in range(SPLITS)]
    found: FloatArray = np.mean(orders, axis=0)
    return found


def error_none_all(members: FloatArray, true: FloatArray) -> float:
    """Return the mean relative error on all but the first two subsets, which give level and slope.

    Args:
        members: [J, M], estimates of the members of a mixture, or of one estimator.
        true: [M], true losses; the first two are of none and all.
    """
    return relative_error(fit_mixture(members[:, :2], true[:2]).of(members[:, 2:]), true[2:])


def additive_estimates(masks: BoolArray, scores: FloatArray) -> FloatArray:
    """Return minus the sum of the members' scores [n] for subsets [m, n]: how scores per task rank subsets."""
    return -(masks.astype(float) @ scores)


def mean_score_estimates(masks: BoolArray, scores: FloatArray) -> FloatArray:
    """Return minus the mean of the members' scores [n] for subsets [m, n], 0 for none: scores blind to size."""
    sizes = np.maximum(masks.sum(axis=1), 1)
    return additive_estimates(masks, scores) / sizes


def _split_half(losses: FloatArray) -> FloatArray:
    """Return the reliability [...] of the mean over seeds of losses [S, ..., M] (see `noise_ceiling`)."""
    seeds = len(losses)
    half = seeds // 2
    found = [
        spearman(losses[list(one)].mean(axis=0), losses[list(other)].mean(axis=0))
        for one in combinations(range(seeds), half)
        for other in combinations(sorted(set(range(seeds)) - set(one)), half)
        if one < other
    ]
    mean, factor = np.mean(found, axis=0), seeds / half
    return np.where(mean > 0, factor * mean / (1 + (factor - 1) * np.maximum(mean, 0)), mean)
