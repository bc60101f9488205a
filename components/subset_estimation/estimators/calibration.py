"""What true fine-tunings say of the estimates: which ones to take, on what scale, and how far to trust them.

A calibration run is a subset that the base model was truly fine-tuned on. Estimates e of the runs' subsets are
set against their true losses y by a line y = a + b e with b >= 0, so that calibration never turns a ranking
around. Every error is that of runs left out: where one of several candidates is chosen by the runs too, each run
is judged by the candidate and the line that the others choose.
"""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

MIN_CALIBRATION_RUNS = 5
"""Fewer runs cannot tell a line from noise."""
ROUNDING = 1e-12
"""Estimates whose spread is below this share of their size are equal up to rounding."""


@dataclass(frozen=True)
class Line:
    """From estimates to true losses, both in nats.

    Attributes:
        slope: b, at least 0.
        intercept: a.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def of(self, estimates: FloatArray) -> FloatArray:
        """Return the calibrated estimates, in the same shape."""
        return self.intercept + self.slope * estimates


@dataclass(frozen=True)
class Calibrated:
    """What the runs chose.

    Attributes:
        best: index of the chosen candidate (see `best_candidate`).
        line: from its estimates to true losses.
        left_out: [K], each run's loss as the other runs predict it.
        left_out_mean: [K], mean loss of the other runs: what a prediction has to beat.
    """

    best: int
    line: Line
    left_out: FloatArray
    left_out_mean: FloatArray


def calibrate(estimates: FloatArray, true: FloatArray) -> Calibrated:
    """Choose among candidates by the runs, and put the chosen one's estimates on the scale of true losses.

    Args:
        estimates: [C, K], each candidate's estimates of the runs' subsets; the first is taken where no other is
            clearly better.
        true: [K], the runs' losses.

    Raises:
        InputError: there are fewer than `MIN_CALIBRATION_RUNS` runs.
    """
    runs = len(true)
    if runs < MIN_CALIBRATION_RUNS:
        raise InputError(
            f"There are {runs} calibration runs: expected at least {MIN_CALIBRATION_RUNS}, or none to go without."
        )
    others = ~np.eye(runs, dtype=bool)
    chosen = [best_candidate(estimates[:, own], true[own]) for own in others]
    predicted = [
        fit_line(estimates[best, own], true[own]).of(estimates[best, run])
        for run, (best, own) in enumerate(zip(chosen, others, strict=True))
    ]
    best = best_candidate(estimates, true)
    return Calibrated(
        best=best,
        line=fit_line(estimates[best], true),
        left_out=np.array(predicted),
        left_out_mean=np.array([true[own].mean() for own in others]),
    )


def best_candidate(estimates: FloatArray, true: FloatArray) -> int:
    """Return the candidate [C, K] whose line predicts left-out runs [K] best, by mean relative error.

    The first stands unless another is better by more than one standard error of the difference over the runs: the
    smallest of many errors is often so by luck.
    """
    errors = np.abs(left_out(estimates, true) - true) / true
    gains = errors[0] - errors
    standard_errors = gains.std(axis=-1, ddof=1) / np.sqrt(len(true))
    clear = gains.mean(axis=-1) > standard_errors
    return int(np.where(clear, errors.mean(axis=-1), errors[0].mean()).argmin())


def left_out(estimates: FloatArray, true: FloatArray) -> FloatArray:
    """Return each run's loss as `fit_line` through the other runs predicts it, for estimates [..., K].

    The sums over the others are those over all runs less the run's own term.
    """
    others = len(true) - 1
    centred = estimates - estimates.mean(axis=-1, keepdims=True)
    mean = -centred / others
    true_mean = (true.sum() - true) / others
    spread = _less_own(centred**2) - others * mean**2
    product = _less_own(centred * true) - others * mean * true_mean
    rounding = ROUNDING * _less_own(centred**2) + ROUNDING**2 * _less_own(estimates**2)
    spread = np.where(spread > rounding, spread, np.inf)
    predicted: FloatArray = true_mean + np.maximum(product / spread, 0) * (centred - mean)
    return predicted


def fit_line(estimates: FloatArray, true: FloatArray) -> Line:
    """Return the least-squares line with a slope of at least 0; that of equal estimates is flat."""
    centred = estimates - estimates.mean()
    spread = centred @ centred
    varied = spread > ROUNDING**2 * (estimates @ estimates)
    slope = max(float(centred @ true / spread), 0.0) if varied else 0.0
    return Line(slope, float(true.mean() - slope * estimates.mean()))


def _less_own(terms: FloatArray) -> FloatArray:
    """Return, for each run, the sum of the other runs' terms [..., K]."""
    sums: FloatArray = terms.sum(axis=-1, keepdims=True) - terms
    return sums


def missed_effects(masks: BoolArray, residuals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return what the runs say of each task beyond the estimates: a control variate for its score.

    It is the mean residual of the runs without the task less that of those with it, shrunk to 0 as far as its
    spread over the tasks is no more than chance (empirical Bayes, the prior's variance by moments). A task that
    is in all runs, or in none, has none.

    Args:
        masks: [K, n], the runs' subsets.
        residuals: [K], true losses less calibrated estimates.

    Returns:
        Effects [n] in nats, positive where the task helps more than was estimated, and their variances [n].
    """
    members = masks.sum(axis=0)
    others = len(masks) - members
    compared = (members > 0) & (others > 0)
    with_task = residuals @ masks / np.maximum(members, 1)
    without = residuals @ ~masks / np.maximum(others, 1)
    found = np.where(compared, without - with_task, 0.0)
    noise = residuals @ residuals / max(len(masks) - 2, 1)
    chance = np.where(compared, noise * (1 / np.maximum(members, 1) + 1 / np.maximum(others, 1)), 0.0)
    spread = max(float((found**2 - chance)[compared].mean()), 0.0) if compared.any() else 0.0
    kept = np.divide(spread, spread + chance, out=np.zeros(len(found)), where=spread + chance > 0)
    return kept * found, kept * chance


def relative_error(predicted: FloatArray, true: FloatArray) -> float:
    """Return the mean of |predicted - true| / true over runs [K]."""
    return float(np.mean(np.abs(predicted - true) / true))
