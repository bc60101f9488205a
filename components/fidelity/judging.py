"""Estimates a study's subsets in every way and sets them against the true losses."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from gradsift.components.fidelity.metrics import (
    additive_estimates,
    calibrated,
    error_none_all,
    mean_score_estimates,
    noise_ceiling,
    random_regret,
    rank_correlations,
    regret,
)
from gradsift.components.fidelity.results import Ceiling, Kind, Ledger, MethodFidelity, TruthFidelity
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.metrics.lds import spearman_interval
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRuns
from gradsift.components.subset_estimation.estimators.calibrated_estimator import open_candidates
from gradsift.components.subset_estimation.estimators.calibration import left_out, relative_error
from gradsift.components.subset_estimation.estimators.loss_estimator import (
    can_blend,
    open_estimator,
    open_simulated,
)
from gradsift.components.subset_estimation.estimators.ridge import ridge_of
from gradsift.components.subset_estimation.selection.baselines import SCORES, BaselineInputs
from gradsift.components.subset_estimation.selection.constraints import Constraints
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics

TIMED_SUBSETS = 1000
CHOSEN = "chosen by calibration"


@dataclass(frozen=True)
class Judged:
    """One way to judge subsets: `members` [J, M], whose mean is its estimates, and which way it is."""

    method: str
    kind: Kind
    expansion: str
    members: FloatArray
    ridge: float | None = None

    @property
    def estimates(self) -> FloatArray:
        """The estimates [M]."""
        mean: FloatArray = self.members.mean(axis=0)
        return mean


def judge(
    config: SubsetEstimationConfig,
    stores: Mapping[str, GradientStore],
    truths: Sequence[FineTuningRuns],
    subsets: Sequence[Sequence[str]],
    calibration_runs: int,
) -> list[TruthFidelity]:
    """Return how close every estimator and baseline comes to each truth.

    Args:
        config: settings of estimation; estimators and ridges are all tried.
        stores: gradient stores by their expansion point.
        truths: runs of all subsets with the same seeds.
        subsets: the M subsets.
        calibration_runs: runs behind every line.
    """
    with threadpool_limits(1, "blas"):
        judged = [each for name, store in stores.items() for each in _judged(config, name, store, subsets)]
        if len(stores) > 1 and can_blend(config):
            blended = open_simulated(config, stores["meta"], stores["base"])
            members = blended.member_losses(blended.statistics.masks(subsets))
            judged.append(Judged("simulated", "estimator", "both", members))
    return [_against(true, judged, subsets, calibration_runs) for true in truths]


def ledger_of(
    config: SubsetEstimationConfig,
    store: GradientStore,
    truths: Sequence[FineTuningRuns],
    seconds: Mapping[str, float],
) -> Ledger:
    """Time the configured estimator on random subsets and return where the time of a study goes.

    Args:
        config: settings of estimation.
        store: the gradient store at theta*.
        truths: the true runs.
        seconds: of `meta_training` and of `gradient_extraction`.
    """
    with threadpool_limits(1, "blas"):
        began = time.perf_counter()
        estimator = open_estimator(config, store)
        read = time.perf_counter()
        generator = np.random.default_rng(0)
        estimator.mean_losses(generator.random((TIMED_SUBSETS, len(estimator.statistics.tasks))) < 0.5)
        ended = time.perf_counter()
    true_run = float(np.mean([run.seconds for true in truths for run in true.runs]))
    once = seconds["meta_training"] + seconds["gradient_extraction"] + read - began
    return Ledger(
        true_run=true_run,
        meta_training=seconds["meta_training"],
        extraction=seconds["gradient_extraction"],
        reading=read - began,
        estimate=(ended - read) / TIMED_SUBSETS,
        worth=once / true_run,
    )


def _judged(
    config: SubsetEstimationConfig, expansion: str, store: GradientStore, subsets: Sequence[Sequence[str]]
) -> Iterator[Judged]:
    for own, estimator in open_candidates(config, store):
        statistics = estimator.statistics
        masks = statistics.masks(subsets)
        yield Judged(own.estimator, "estimator", expansion, estimator.mean_losses(masks)[None], own.ridge)
    if expansion == "meta":
        simulated = open_simulated(config, store).member_losses(masks)
        yield Judged("simulated", "estimator", expansion, simulated)
    for name, scores in _scores(config, store, statistics).items():
        yield Judged(name, "baseline", expansion, additive_estimates(masks, scores)[None])
        yield Judged(f"{name}_mean", "baseline", expansion, mean_score_estimates(masks, scores)[None])


def _scores(
    config: SubsetEstimationConfig, store: GradientStore, statistics: TaskStatistics
) -> dict[str, FloatArray]:
    nothing = np.zeros(len(statistics.tasks), bool)
    inputs = BaselineInputs(
        statistics=statistics,
        store=store,
        ridge=ridge_of(config, statistics),
        constraints=Constraints.none(len(nothing)),
        selected=nothing,
        generator=np.random.default_rng(0),
    )
    scores = {name: score(inputs) for name, score in SCORES.items()}
    return {name: found for name, found in scores.items() if found is not None}


def _against(
    true: FineTuningRuns, judged: Sequence[Judged], subsets: Sequence[Sequence[str]], calibration_runs: int
) -> TruthFidelity:
    losses = _losses(true, subsets)
    mean = losses.mean(axis=0)
    ceiling = noise_ceiling(losses)
    estimates = np.stack([each.estimates for each in judged if each.ridge is not None])
    choice = calibrated(estimates, mean, calibration_runs)
    chosen = MethodFidelity(
        method=CHOSEN,
        kind="calibration",
        expansion=None,
        lds=choice.spearman,
        error_calibrated=choice.error,
    )
    methods = [chosen, *(_fidelity(each, losses, calibration_runs) for each in judged)]
    return TruthFidelity(
        start=true.start,
        losses=mean.tolist(),
        deviations=losses.std(axis=0, ddof=1).tolist() if len(losses) > 1 else [],
        ceiling=None if ceiling is None else Ceiling(**asdict(ceiling)),
        error_constant=choice.constant,
        error_constant_left_out=relative_error(left_out(np.ones_like(mean), mean), mean),
        random_regret=random_regret(losses).tolist(),
        methods=sorted(methods, key=lambda each: -1.0 if each.lds is None else each.lds, reverse=True),
        seconds=sum(run.seconds for run in true.runs),
    )


def _fidelity(judged: Judged, losses: FloatArray, calibration_runs: int) -> MethodFidelity:
    true, is_loss = losses.mean(axis=0), judged.kind == "estimator"
    ranks = rank_correlations(judged.estimates, true)
    low, high = spearman_interval(judged.estimates, true) if ranks else (None, None)
    return MethodFidelity(
        method=judged.method,
        kind=judged.kind,
        expansion=judged.expansion,
        ridge=judged.ridge,
        lds=ranks[0] if ranks else None,
        lds_low=low,
        lds_high=high,
        kendall=ranks[1] if ranks else None,
        error_raw=relative_error(judged.estimates, true) if is_loss else None,
        error_calibrated=calibrated(judged.estimates[None], true, calibration_runs).error,
        error_left_out=relative_error(left_out(judged.estimates, true), true),
        error_none_all=error_none_all(judged.members, true) if is_loss else None,
        regret=regret(judged.estimates, losses).tolist(),
        estimates=judged.estimates.tolist(),
    )


def _losses(true: FineTuningRuns, subsets: Sequence[Sequence[str]]) -> FloatArray:
    """Return the true losses [S, M] by seed and subset."""
    found = {(frozenset(run.subset), run.seed): run.val_loss for run in true.runs}
    seeds = sorted({run.seed for run in true.runs})
    return np.array([[found[frozenset(subset), seed] for subset in subsets] for seed in seeds])
