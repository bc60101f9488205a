"""The estimation step: from a gradient store to estimated losses of thousands of subsets, and one chosen."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.models.mixture import write_mixture
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRuns
from gradsift.components.shared.records.selection_results import FIRST_ROUND, SECOND_ROUND, Selection
from gradsift.components.subset_estimation.estimators.calibrated_estimator import BASE, META, open_calibrated
from gradsift.components.subset_estimation.estimators.calibration import MIN_CALIBRATION_RUNS
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator
from gradsift.components.subset_estimation.explanations.explanations import explain
from gradsift.components.subset_estimation.outputs.selection_record import selection_record
from gradsift.components.subset_estimation.selection.choices import make_choices, search
from gradsift.components.subset_estimation.selection.finalists import next_subsets
from gradsift.components.subset_estimation.selection.gaps import EstimatedGaps, open_gaps
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.store_reading import auxiliary_tasks
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

STEP = "subset_estimation"
ESTIMATES = "estimates.parquet"
PROMISING = "promising_subsets"


def estimate_subsets(
    config: SubsetEstimationConfig,
    gradients: StepOutput,
    root_uri: str,
    origin: Mapping[str, str] | None = None,
    data: StepOutput | None = None,
    calibration: FineTuningRuns | None = None,
    second_round: int | None = None,
    fairness: FairnessConfig | None = None,
) -> StepOutput:
    """Estimate subsets from a gradient store and choose one.

    Args:
        config: the settings.
        gradients: the gradient store, as its step returned it; its metadata may name the `suite`, and a second
            store at the pretrained weights, which `simulated` blends in and calibration may choose.
        root_uri: the run root, a local path or an `s3://` address.
        origin: digests that the store's header must have, for example `data_digest`, where they are known.
        data: the prepared data, whose chosen rows are written for other trainers; None writes none.
        calibration: the first round's runs, which choose the estimator and its scale; None takes the settings'.
        second_round: how many more subsets are fine-tuned on to confirm the choice; None confirms nothing.
        fairness: the groups of validation rows whose gap is estimated, with a limit on it; needs `data`.

    Returns:
        The output with `estimates.parquet`, `selection.json` and `mixture/` (see the README); its metadata holds
        the chosen tasks, their estimated loss and what it is compared with.

    Raises:
        GradientStoreError: the store is unfinished or damaged, was made for other weights or data, or lacks
            rows that the estimates need.
        InputError: the logistic estimator did not converge with this ridge, or tasks that must be in or out are
            unknown or over the budget, the calibration runs cannot be used (see `open_calibrated`), or no subset
            keeps to the limit on gaps.
    """
    store = GradientStore(gradients.uri, gradients.digest)
    store.check_origin(**(origin or {}))
    config = config.for_tasks(auxiliary_tasks(store))
    suite = str(gradients.metadata.get("suite", ""))
    inputs = {
        "config": config.model_dump(),
        "gradient_store": gradients.digest,
        "base_store": gradients.metadata.get("base_digest"),
        "suite": suite,
        "data": None if data is None else data.digest,
        "calibration": None if calibration is None else calibration.model_dump(),
        "second_round": second_round,
        **({} if fairness is None else {"fairness": fairness.model_dump()}),
    }

    def work(folder: Path) -> dict[str, Any]:
        selection = _estimate(config, gradients, calibration, second_round, suite, data, folder, fairness)
        if data is not None:
            write_mixture(folder, data, selection.selected)
        return _metadata(selection)

    return produce(root_uri, STEP, inputs, work)


def _estimate(
    config: SubsetEstimationConfig,
    gradients: StepOutput,
    calibration: FineTuningRuns | None,
    second_round: int | None,
    suite: str,
    data: StepOutput | None,
    folder: Path,
    fairness: FairnessConfig | None,
) -> Selection:
    started = time.monotonic()
    stores = _stores(gradients)
    store = stores[META]
    # One thread is faster for matrices this small, and gives the same bytes on any number of cores.
    with threadpool_limits(1, "blas"), tqdm(desc="Estimating", unit=" subsets", disable=None) as progress:
        calibrated = None
        if calibration is not None and _can_calibrate(config, calibration):
            calibrated = open_calibrated(config, stores, calibration)
            config, store = calibrated.config, stores[calibrated.expansion]
        estimator = calibrated.estimator if calibrated else open_estimator(config, store, stores.get(BASE))
        ledger = EstimateLedger(estimator, progress)
        prepared = None if data is None else PreparedData(fetch(data))
        gaps = open_gaps(fairness, estimator, store, prepared) if fairness and prepared else None
        choices = make_choices(config, ledger, store, gaps)
        if calibrated:
            choices = replace(choices, scores=calibrated.corrected(choices.scores))
        explanations = explain(config, ledger, choices, store, prepared)
        finalists = _finalists(config, ledger, calibration, second_round, gaps)
        seconds = round(time.monotonic() - started, 3)
        record = calibrated.record if calibrated else None
        selection = selection_record(
            config, suite, ledger, choices, explanations, record, finalists, seconds, gaps
        )
    ledger.write(folder / ESTIMATES, config.estimator)
    selection.write(folder)
    return selection


def promising_subsets(
    config: SubsetEstimationConfig,
    gradients: StepOutput,
    root_uri: str,
    trained: Sequence[Sequence[str]],
    count: int,
    data: StepOutput | None = None,
    fairness: FairnessConfig | None = None,
) -> list[list[str]]:
    """Return the subsets that promise most by their estimates without any run, spread out.

    Args:
        config: the settings.
        gradients: the gradient store (see `estimate_subsets`).
        root_uri: the run root.
        trained: subsets that are fine-tuned on at the same time.
        count: how many; there may be fewer.
        data: the prepared data, where gaps are limited.
        fairness: a limit on the estimated gap that they keep to; None for none.

    Raises:
        GradientStoreError: the store is unfinished or damaged.
        InputError: no subset keeps to the limit on gaps.
    """

    def work(_: Path) -> dict[str, Any]:
        stores = _stores(gradients)
        with threadpool_limits(1, "blas"), tqdm(desc="Estimating", unit=" subsets", disable=None) as progress:
            estimator = open_estimator(config, stores[META], stores.get(BASE))
            ledger = EstimateLedger(estimator, progress)
            gaps = None
            if fairness is not None and data is not None:
                gaps = open_gaps(fairness, estimator, stores[META], PreparedData(fetch(data)))
            search(config, ledger, gaps)
            found = next_subsets(ledger, config, estimator.statistics.masks(trained), None, count, gaps)
        return {"subsets": [ledger.names(mask) for mask in found]}

    inputs = {
        "config": config.model_dump(),
        "gradient_store": gradients.digest,
        "trained": [list(subset) for subset in trained],
        "count": count,
    }
    if fairness is not None and data is not None:
        inputs |= {"fairness": fairness.model_dump(), "data": data.digest}
    if "base_digest" in gradients.metadata:
        inputs["base_store"] = gradients.metadata["base_digest"]
    subsets: list[list[str]] = produce(root_uri, STEP, inputs, work, PROMISING).metadata["subsets"]
    return subsets


def _can_calibrate(config: SubsetEstimationConfig, calibration: FineTuningRuns) -> bool:
    """Return whether the runs are enough: the mixture of simulated runs is corrected by any number of them."""
    subsets = {frozenset(run.subset) for run in calibration.runs}
    return config.estimator == "simulated" or len(subsets) >= MIN_CALIBRATION_RUNS


def _finalists(
    config: SubsetEstimationConfig,
    ledger: EstimateLedger,
    runs: FineTuningRuns | None,
    second_round: int | None,
    gaps: EstimatedGaps | None,
) -> dict[str, BoolArray]:
    """Return the subsets [m, n] of both rounds by the round's name; none where no run confirms the choice."""
    if runs is None or second_round is None:
        return {}
    subsets = list({tuple(run.subset): run.subset for run in runs.runs}.values())
    first = ledger.estimator.statistics.masks(subsets)
    losses = [np.mean([run.val_loss for run in runs.runs if run.subset == subset]) for subset in subsets]
    second = next_subsets(ledger, config, first, np.array(losses), second_round, gaps)
    return {FIRST_ROUND: first, SECOND_ROUND: second}


def _stores(gradients: StepOutput) -> dict[str, GradientStore]:
    """Return the store at theta* and, where extraction wrote one too, that at the pretrained weights."""
    stores = {META: GradientStore(gradients.uri, gradients.digest)}
    metadata = gradients.metadata
    if "base_uri" in metadata:
        stores[BASE] = GradientStore(metadata["base_uri"], metadata["base_digest"])
    return stores


def _metadata(selection: Selection) -> dict[str, Any]:
    estimated = {result.method: result.estimated_loss for result in selection.methods}
    return {
        "target": selection.target,
        "suite": selection.suite,
        "selected": selection.selected,
        "estimated_loss": selection.estimated_loss,
        "standard_error": selection.standard_error,
        "estimated_loss_all": estimated["all"],
        "estimated_loss_target_only": estimated["target_only"],
        "subsets_estimated": selection.subsets_estimated,
        "sources_with_findings": sum(bool(health.findings) for health in selection.health),
        "seconds": selection.seconds,
    }
