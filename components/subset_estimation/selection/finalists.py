"""Which subsets to fine-tune on next: those that may have the lowest true loss, spread out."""

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, PairwiseKernel

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.selection.gaps import EstimatedGaps
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

MAX_CANDIDATES = 500
LENGTH = 0.3
"""Share of the tasks in which subsets differ at which their residuals' correlation has fallen to 1/e."""
SPREAD = 0.5
"""Standard deviation of the residuals, in standard deviations of the estimates."""
NOISE = 0.02
"""Standard deviation of a true loss between seeds, as a share of the mean loss."""
CONFIDENCE = 0.5
"""The lower confidence bound lies so many standard deviations below the mean."""


def next_subsets(
    ledger: EstimateLedger,
    config: SubsetEstimationConfig,
    trained: BoolArray,
    losses: FloatArray | None,
    count: int,
    gaps: EstimatedGaps | None = None,
) -> BoolArray:
    """Return the subsets to fine-tune on next, fewer than `count` where there are no more.

    A Gaussian process over subsets models the residuals, true loss less estimate, beside a free level. The subset
    with the lowest lower confidence bound is taken. The process then believes its own prediction for it, so that
    the next one lies elsewhere (kriging believer, Ginsbourger et al., 2010).

    Args:
        ledger: the estimates; those subsets are candidates that keep to the settings' limits.
        config: the settings.
        trained: [k, n], subsets that are trained already or at the same time.
        losses: [k], their true losses; None where they are not known yet.
        count: how many.
        gaps: a limit on the estimated gap that candidates keep to; None for none.
    """
    candidates = _candidates(ledger, config, trained, gaps)
    if count == 0 or len(candidates) == 0:
        return candidates[:0]
    estimates = ledger.mean_losses(candidates, "finalists")
    expected = ledger.mean_losses(trained, "finalists")
    residuals = np.zeros(len(trained)) if losses is None else losses - expected
    level = residuals.mean()
    process = _process(np.concatenate([estimates, expected]), level, trained.shape[1])
    masks, residuals, taken = trained, residuals - level, np.zeros(len(candidates), bool)
    picked: list[int] = []
    for _ in range(min(count, len(candidates))):
        mean, deviation = process.fit(masks, residuals).predict(candidates, return_std=True)
        best = int(np.where(taken, np.inf, estimates + mean - CONFIDENCE * deviation).argmin())
        picked.append(best)
        taken[best] = True
        masks, residuals = np.vstack([masks, candidates[best]]), np.append(residuals, mean[best])
    return candidates[picked]


def _candidates(
    ledger: EstimateLedger,
    config: SubsetEstimationConfig,
    trained: BoolArray,
    gaps: EstimatedGaps | None,
) -> BoolArray:
    """Return the subsets [m, n] with the lowest estimates, in order, that may be chosen and are not trained."""
    rows = ledger.estimator.statistics.rows[:-1]
    known = {mask.tobytes() for mask in trained}
    found: list[BoolArray] = []
    masks = ledger.by_loss()
    within = [True] * len(masks) if gaps is None else gaps.permit(np.stack(masks)).tolist()
    for mask, permitted in zip(masks, within, strict=True):
        if mask.tobytes() in known or not permitted:
            continue
        if config.permits(ledger.names(mask), int(mask @ rows)):
            found.append(mask)
        if len(found) == MAX_CANDIDATES:
            break
    return np.array(found, bool).reshape(len(found), trained.shape[1])


def _process(estimates: FloatArray, level: float, tasks: int) -> GaussianProcessRegressor:
    """Return the process with the kernel exp(-h / LENGTH), h the share of the tasks in which two subsets differ."""
    noise = NOISE * max(abs(estimates.mean() + level), np.finfo(float).tiny)
    deviation = max(SPREAD * estimates.std(), noise)
    correlation = PairwiseKernel(1 / (LENGTH * tasks), "fixed", metric="laplacian")
    return GaussianProcessRegressor(
        ConstantKernel(deviation**2, "fixed") * correlation, alpha=noise**2, optimizer=None
    )
