"""The estimation step: from a gradient store to estimated losses of thousands of subsets, and one chosen."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gradsift.components.shared.gradient_store import GradientStore
from gradsift.components.shared.step_output import StepOutput, produce
from gradsift.components.subset_estimation.choices import make_choices
from gradsift.components.subset_estimation.config import SubsetEstimationConfig
from gradsift.components.subset_estimation.ledger import EstimateLedger
from gradsift.components.subset_estimation.loss_estimator import open_estimator
from gradsift.components.subset_estimation.selection_record import selection_record

STEP = "subset_estimation"
ESTIMATES = "estimates.parquet"


def estimate_subsets(
    config: SubsetEstimationConfig,
    gradients: StepOutput,
    root_uri: str,
    origin: Mapping[str, str] | None = None,
) -> StepOutput:
    """Estimate subsets from a gradient store and choose one.

    Args:
        config: the settings.
        gradients: the gradient store, as its step returned it; its metadata may name the `suite`.
        root_uri: the run root, a local path or an `s3://` address.
        origin: digests that the store's header must have, for example `data_digest`, where they are known.

    Returns:
        The output with `estimates.parquet` and `selection.json` (see the README); its metadata holds the
        chosen tasks, their estimated loss and what it is compared with.

    Raises:
        GradientStoreError: the store is unfinished or damaged, was made for other weights or data, or lacks
            rows that the estimates need.
        InputError: the logistic estimator did not converge with this ridge.
    """
    GradientStore(gradients.uri, gradients.digest).check_origin(**(origin or {}))
    suite = str(gradients.metadata.get("suite", ""))
    inputs = {"config": asdict(config), "gradient_store": gradients.digest, "suite": suite}
    return produce(root_uri, STEP, inputs, lambda folder: _estimate(config, gradients, suite, folder))


def _estimate(
    config: SubsetEstimationConfig, gradients: StepOutput, suite: str, folder: Path
) -> dict[str, Any]:
    started = time.monotonic()
    store = GradientStore(gradients.uri, gradients.digest)
    # One thread is faster for matrices this small, and gives the same bytes on any number of cores.
    with threadpool_limits(1, "blas"), tqdm(desc="Estimating", unit=" subsets", disable=None) as progress:
        ledger = EstimateLedger(open_estimator(config, store), progress)
        choices = make_choices(config, ledger)
        seconds = round(time.monotonic() - started, 3)
        selection = selection_record(config, suite, ledger, choices, seconds)
    ledger.write(folder / ESTIMATES, config.estimator)
    selection.write(folder)
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
        "seconds": selection.seconds,
    }
