"""The estimator that calibration runs choose: its kind, its ridge, its expansion point, and its scale."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau, spearmanr

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import ESTIMATORS, SubsetEstimationConfig
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRun, FineTuningRuns
from gradsift.components.shared.records.selection_results import Calibration, CalibrationRun
from gradsift.components.subset_estimation.estimators.calibration import (
    Calibrated,
    calibrate,
    missed_effects,
    relative_error,
)
from gradsift.components.subset_estimation.estimators.loss_estimator import LossEstimator
from gradsift.components.subset_estimation.estimators.uncertainty import Estimates
from gradsift.components.subset_estimation.statistics.margins import FloatArray
from gradsift.components.subset_estimation.statistics.store_reading import (
    has_train_margins,
    read_statistics,
    read_train_rows,
)
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

logger = logging.getLogger(__name__)

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
    """Choose the configured estimator, or another one that predicts left-out runs clearly better.

    Args:
        config: the settings; estimator and ridge are chosen anew.
        stores: gradient stores of the same rows by the name of their expansion point.
        true: the runs.

    Raises:
        GradientStoreError: a store cannot be used.
        InputError: the runs are too few, are another target's, or hold a task that the stores have not.
    """
    subsets = _runs_by_subset(true)
    losses = np.array([np.mean([run.val_loss for run in runs]) for runs in subsets.values()])
    candidates, estimates = [], []
    for expansion, store in stores.items():
        for own, estimator in open_candidates(config, store):
            statistics = estimator.statistics
            if statistics.target != true.target:
                raise InputError(
                    f"The calibration runs are of the target {true.target!r}: expected runs of "
                    f"{statistics.target!r}."
                )
            masks = np.stack([statistics.mask(list(subset)) for subset in subsets])
            candidates.append((own, expansion, estimator))
            estimates.append(estimator.mean_losses(masks))
    chosen = calibrate(np.stack(estimates), losses)
    own, expansion, estimator = candidates[chosen.best]
    if chosen.line.slope > 0:
        estimator.line = chosen.line
    record = _record(own, expansion, chosen, subsets, estimates[chosen.best], losses)
    residuals = losses - chosen.line.of(estimates[chosen.best])
    return CalibratedEstimator(own, estimator, expansion, record, masks, residuals)


def open_candidates(
    config: SubsetEstimationConfig, store: GradientStore
) -> Iterator[tuple[SubsetEstimationConfig, LossEstimator]]:
    """Yield both estimators with every ridge and their settings, the configured ones first, from one reading.

    Where losses are not those of margins, as where answers are several tokens, `logistic` is left out.

    Raises:
        GradientStoreError: the store cannot be used.
    """
    statistics, train = read_statistics(store), None
    estimators: tuple[str, ...] = ("gauss_newton",)
    if has_train_margins(store) or config.estimator == "logistic":
        train, estimators = read_train_rows(store), ESTIMATORS
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
    for own in [config, *(other for other in others if other != config)]:
        yield own, LossEstimator(own, statistics, train if own.estimator == "logistic" else None)


def _runs_by_subset(true: FineTuningRuns) -> dict[frozenset[str], list[FineTuningRun]]:
    subsets: dict[frozenset[str], list[FineTuningRun]] = {}
    for run in true.runs:
        subsets.setdefault(frozenset(run.subset), []).append(run)
    return subsets


def _record(
    config: SubsetEstimationConfig,
    expansion: str,
    chosen: Calibrated,
    subsets: dict[frozenset[str], list[FineTuningRun]],
    estimates: FloatArray,
    losses: FloatArray,
) -> Calibration:
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
            for runs, estimate, predicted in zip(subsets.values(), estimates, chosen.left_out, strict=True)
            for run in runs
        ],
        estimator=config.estimator,
        ridge=config.ridge,
        expansion=expansion,
        slope=chosen.line.slope,
        intercept=chosen.line.intercept,
        spearman=float(spearmanr(estimates, losses).statistic) if varied else None,
        kendall=float(kendalltau(estimates, losses).statistic) if varied else None,
        error_raw=relative_error(estimates, losses),
        error_calibrated=relative_error(chosen.left_out, losses),
        error_constant=relative_error(chosen.left_out_mean, losses),
        noise=_noise(subsets),
    )


def _noise(subsets: dict[frozenset[str], list[FineTuningRun]]) -> float | None:
    """Return the standard deviation between seeds of one subset, pooled; None where none ran twice."""
    repeated = [[run.val_loss for run in runs] for runs in subsets.values() if len(runs) > 1]
    if not repeated:
        return None
    squares = sum(np.var(losses) * len(losses) for losses in repeated)
    return float(np.sqrt(squares / sum(len(losses) - 1 for losses in repeated)))
