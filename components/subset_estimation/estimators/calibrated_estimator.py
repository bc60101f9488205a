"""The estimator that calibration runs choose: its kind, its ridge, its expansion point, and its scale."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau, spearmanr

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.estimation import RIDGE_ESTIMATORS, SubsetEstimationConfig
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRun, FineTuningRuns
from gradsift.components.shared.records.selection_results import Calibration, CalibrationRun
from gradsift.components.subset_estimation.estimators.calibration import (
    Line,
    calibrate,
    missed_effects,
    relative_error,
)
from gradsift.components.subset_estimation.estimators.loss_estimator import (
    LossEstimator,
    open_simulated,
    solved_estimator,
)
from gradsift.components.subset_estimation.estimators.mixture_fit import fit_mixture, left_out_losses
from gradsift.components.subset_estimation.estimators.uncertainty import Estimates
from gradsift.components.subset_estimation.statistics.store_reading import (
    has_train_margins,
    read_statistics,
    read_train_rows,
)
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

logger = logging.getLogger(__name__)

META, BASE = "meta", "base"
"""Names of the expansion points, theta* and the base weights."""

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""The ridges c that the runs choose among, beside the configured one."""


@dataclass(frozen=True)
class CalibratedEstimator:
    """What the calibration runs chose.

    Attributes:
        config: the settings, with the chosen estimator and ridge.
        estimator: the estimator, its losses on the scale of true ones where the runs give a scale.
        expansion: name of the store that it is read from.
        record: what the runs say of it.
        masks: [K, n], the runs' subsets.
        residuals: [K], their true losses less the estimates on the new scale.
    """

    config: SubsetEstimationConfig
    estimator: LossEstimator
    expansion: str
    record: Calibration
    masks: BoolArray
    residuals: FloatArray

    def corrected(self, scores: Estimates) -> Estimates:
        """Return task scores [n] with what the runs say of each task beyond the estimates added."""
        effect, variance = missed_effects(self.masks, self.residuals)
        return Estimates(scores.loss + effect, np.sqrt(scores.standard_error**2 + variance))


def open_calibrated(
    config: SubsetEstimationConfig, stores: Mapping[str, GradientStore], true: FineTuningRuns
) -> CalibratedEstimator:
    """Correct the mixture of simulated runs, or choose the ridge estimator that predicts left-out runs best.

    Of ridge estimators the configured one stands unless another predicts left-out runs clearly better.

    Args:
        config: the settings; a ridge estimator and its ridge are chosen again.
        stores: gradient stores of the same rows by the name of their expansion point.
        true: the runs.

    Raises:
        GradientStoreError: a store cannot be used.
        InputError: the runs are too few, are another target's, or hold a task that the stores have not.
    """
    subsets = _runs_by_subset(true)
    losses = np.array([np.mean([run.val_loss for run in runs]) for runs in subsets.values()])
    if config.estimator == "simulated":
        return _corrected_mixture(config, stores, true.target, subsets, losses)
    candidates, estimates = [], []
    for expansion, store in stores.items():
        for own, estimator in open_candidates(config, store):
            masks = _masks(estimator, true.target, subsets)
            candidates.append((own, expansion, estimator))
            estimates.append(estimator.mean_losses(masks))
    chosen = calibrate(np.stack(estimates), losses)
    own, expansion, estimator = candidates[chosen.best]
    if chosen.line.slope > 0:
        estimator.line = chosen.line
    record = _record(own, expansion, chosen.line, subsets, estimates[chosen.best], losses, chosen.left_out)
    residuals = losses - chosen.line.of(estimates[chosen.best])
    return CalibratedEstimator(own, estimator, expansion, record, masks, residuals)


def _corrected_mixture(
    config: SubsetEstimationConfig,
    stores: Mapping[str, GradientStore],
    target: str,
    subsets: dict[frozenset[str], list[FineTuningRun]],
    losses: FloatArray,
) -> CalibratedEstimator:
    estimator = open_simulated(config, stores[META], stores.get(BASE))
    masks = _masks(estimator, target, subsets)
    members = estimator.member_losses(masks)
    estimates = members.mean(axis=0)
    fit = fit_mixture(members, losses)
    estimator.correct(fit)
    line = Line(fit.slope, fit.intercept) if fit.slope > 0 else Line(0.0, float(losses.mean()))
    record = _record(config, META, line, subsets, estimates, losses, left_out_losses(members, losses))
    return CalibratedEstimator(config, estimator, META, record, masks, losses - fit.of(members))


def _masks(estimator: LossEstimator, target: str, subsets: Iterable[frozenset[str]]) -> BoolArray:
    statistics = estimator.statistics
    if statistics.target != target:
        raise InputError(
            f"The calibration runs are of the target {target!r}: expected runs of {statistics.target!r}."
        )
    return statistics.masks(subsets)


def open_candidates(
    config: SubsetEstimationConfig, store: GradientStore
) -> Iterator[tuple[SubsetEstimationConfig, LossEstimator]]:
    """Yield both ridge estimators with every ridge and their settings, from one reading.

    A configured ridge estimator comes first. Where losses are not those of margins, as where answers are several
    tokens, `logistic` is left out.

    Raises:
        GradientStoreError: the store cannot be used.
    """
    statistics, train = read_statistics(store), None
    estimators: tuple[str, ...] = ("gauss_newton",)
    if has_train_margins(store) or config.estimator == "logistic":
        train, estimators = read_train_rows(store), RIDGE_ESTIMATORS
    else:
        logger.warning(
            "The estimator 'logistic' is left out: the rows of the gradient store at %s are answered by several "
            "tokens each, so that their losses are not -log sigmoid(margin).",
            store.storage.uri,
        )
    ridges = sorted({*RIDGES, config.ridge})
    others = [
        config.model_copy(update={"estimator": name, "ridge": ridge})
        for name in estimators
        for ridge in ridges
    ]
    configured = [config] if config.estimator in RIDGE_ESTIMATORS else []
    for own in [*configured, *(other for other in others if other != config)]:
        yield own, solved_estimator(own, statistics, train if own.estimator == "logistic" else None)


def _runs_by_subset(true: FineTuningRuns) -> dict[frozenset[str], list[FineTuningRun]]:
    subsets: dict[frozenset[str], list[FineTuningRun]] = {}
    for run in true.runs:
        subsets.setdefault(frozenset(run.subset), []).append(run)
    return subsets


def _record(
    config: SubsetEstimationConfig,
    expansion: str,
    line: Line,
    subsets: dict[frozenset[str], list[FineTuningRun]],
    estimates: FloatArray,
    losses: FloatArray,
    left_out: FloatArray,
) -> Calibration:
    """Return the record of the runs, with each one's loss as the others predict it, `left_out` [K]."""
    left_out_mean = (losses.sum() - losses) / max(len(losses) - 1, 1)
    varied = np.ptp(estimates) > 0 and np.ptp(losses) > 0
    return Calibration(
        runs=[
            CalibrationRun(
                subset=run.subset,
                seed=run.seed,
                true_loss=run.val_loss,
                true_accuracy=run.val_accuracy,
                estimated_loss=estimate,
                calibrated_loss=predicted,
            )
            for runs, estimate, predicted in zip(subsets.values(), estimates, left_out, strict=True)
            for run in runs
        ],
        estimator=config.estimator,
        ridge=config.ridge,
        expansion=expansion,
        slope=line.slope,
        intercept=line.intercept,
        spearman=float(spearmanr(estimates, losses).statistic) if varied else None,
        kendall=float(kendalltau(estimates, losses).statistic) if varied else None,
        error_raw=relative_error(estimates, losses),
        error_calibrated=relative_error(left_out, losses),
        error_constant=relative_error(left_out_mean, losses),
        noise=_noise(subsets),
    )


def _noise(subsets: dict[frozenset[str], list[FineTuningRun]]) -> float | None:
    """Return the standard deviation between seeds of one subset, pooled; None where none ran twice."""
    repeated = [[run.val_loss for run in runs] for runs in subsets.values() if len(runs) > 1]
    if not repeated:
        return None
    squares = sum(np.var(losses) * len(losses) for losses in repeated)
    return float(np.sqrt(squares / sum(len(losses) - 1 for losses in repeated)))
