"""The estimator that true fine-tunings choose, on problems whose truth is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from gradsift.components.shared.errors import GradientStoreError, InputError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRun, FineTuningRuns
from gradsift.components.subset_estimation.estimators.calibrated_estimator import (
    CalibratedEstimator,
    open_calibrated,
)
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator
from gradsift.components.subset_estimation.estimators.mixture import MEMBERS

TASKS = 5


@pytest.fixture(scope="module")
def problem(synthetic: Any) -> Any:
    return synthetic.problem(seed=3, tasks=TASKS, blocks=2)


@pytest.fixture(scope="module")
def store(problem: Any, tmp_path_factory: pytest.TempPathFactory) -> GradientStore:
    output = problem.write(tmp_path_factory.mktemp("store"))
    return GradientStore(output.uri, output.digest)


@pytest.fixture(scope="module")
def masks(synthetic: Any) -> Any:
    return synthetic.subsets(TASKS)[::3]


def true_losses(problem: Any, masks: Any, losses: Any, **changes: Any) -> FineTuningRuns:
    """Return runs with these losses, one a subset."""
    runs = [
        FineTuningRun(
            subset=[task for task, member in zip(problem.tasks, mask, strict=True) if member],
            seed=0,
            start="base",
            val_loss=loss,
            val_accuracy=0.5,
            train_rows=10,
            optimizer_steps=1,
            seconds=1.0,
        )
        for mask, loss in zip(masks, losses, strict=True)
    ]
    fields = {"suite": "synthetic", "target": "target", "recipe": {}, "start": "base", "runs": runs}
    return FineTuningRuns.model_validate(fields | changes)


def calibrated(store: GradientStore, true: FineTuningRuns, **settings: Any) -> CalibratedEstimator:
    return open_calibrated(
        SubsetEstimationConfig(**({"estimator": "gauss_newton"} | settings)), {"meta": store}, true
    )


@pytest.mark.parametrize(
    ("name", "ridge"), [("gauss_newton", 1.0), ("gauss_newton", 100.0), ("logistic", 3.0)]
)
def test_the_estimator_that_made_the_truth_is_found_and_put_on_its_scale(
    problem: Any, store: GradientStore, masks: Any, name: str, ridge: float
) -> None:
    estimates = problem.estimator(estimator=name, ridge=ridge, ridge_scaling="per_row").mean_losses(masks)
    found = calibrated(store, true_losses(problem, masks, 0.1 + 0.5 * estimates))
    assert (found.config.estimator, found.config.ridge) == (name, ridge)
    assert found.estimator.mean_losses(masks) == pytest.approx(0.1 + 0.5 * estimates, rel=1e-4)
    assert found.record.slope == pytest.approx(0.5, rel=1e-2)
    assert found.record.error_calibrated < 0.01 * found.record.error_constant
    assert found.record.spearman == pytest.approx(1)


def test_losses_in_full_detail_are_on_the_same_scale(problem: Any, store: GradientStore, masks: Any) -> None:
    estimates = problem.estimator(ridge=10.0).mean_losses(masks)
    found = calibrated(store, true_losses(problem, masks, 2 + 3 * estimates)).estimator
    details = found.losses(masks).estimates()
    assert details.loss == pytest.approx(found.mean_losses(masks), abs=1e-8)
    raw = problem.estimator(ridge=10.0).losses(masks).estimates().standard_error
    assert details.standard_error == pytest.approx(3 * raw, rel=1e-2)


def test_the_expansion_point_is_chosen(
    synthetic: Any, problem: Any, store: GradientStore, masks: Any, tmp_path: Path
) -> None:
    other = synthetic.problem(seed=9, tasks=TASKS, blocks=2).write(tmp_path)
    estimates = problem.estimator(ridge=10.0).mean_losses(masks)
    stores = {"base": GradientStore(other.uri, other.digest), "meta": store}
    found = open_calibrated(
        SubsetEstimationConfig(estimator="gauss_newton"), stores, true_losses(problem, masks, estimates)
    )
    assert found.expansion == found.record.expansion == "meta"


def test_a_truth_that_no_estimate_follows_leaves_the_estimates_alone(
    problem: Any, store: GradientStore, masks: Any
) -> None:
    estimates = problem.estimator(ridge=10.0).mean_losses(masks)
    found = calibrated(store, true_losses(problem, masks, 2 - estimates))
    config = {"estimator": found.config.estimator, "ridge": found.config.ridge}
    raw = problem.estimator(**config).mean_losses(masks)
    assert found.record.slope == 0
    assert found.estimator.mean_losses(masks) == pytest.approx(raw, rel=1e-4)
    assert found.record.error_calibrated >= 0.9 * found.record.error_constant


def test_several_seeds_of_a_subset_are_one_run_and_give_the_noise(
    problem: Any, store: GradientStore, masks: Any
) -> None:
    estimates = problem.estimator(ridge=10.0).mean_losses(masks)
    first = true_losses(problem, masks, estimates + 0.01)
    second = true_losses(problem, masks, estimates - 0.01)
    runs = [*first.runs, *(run.model_copy(update={"seed": 1}) for run in second.runs)]
    found = calibrated(store, true_losses(problem, masks, estimates, runs=runs))
    assert len(found.record.runs) == 2 * len(masks)
    assert found.record.noise == pytest.approx(0.01 * np.sqrt(2))
    assert found.record.error_calibrated < 1e-3


def test_the_record_tells_each_run_as_the_others_predict_it(
    problem: Any, store: GradientStore, masks: Any
) -> None:
    generator = np.random.default_rng(0)
    estimates = problem.estimator(ridge=10.0).mean_losses(masks)
    losses = estimates + 0.01 * generator.normal(size=len(masks))
    record = calibrated(store, true_losses(problem, masks, losses)).record
    assert [run.true_loss for run in record.runs] == pytest.approx(losses)
    predicted = np.array([run.calibrated_loss for run in record.runs])
    assert record.error_calibrated == pytest.approx(np.mean(np.abs(predicted - losses) / losses))
    assert record.noise is None
    raw = [run.estimated_loss for run in record.runs]
    assert record.spearman == pytest.approx(spearmanr(raw, losses).statistic)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "other"}, "are of the target 'other': expected runs of 'target'"),
        ({"subset": ["nowhere"]}, "nowhere"),
        ({"runs": 3}, "There are 3 calibration runs: expected at least 5"),
    ],
)
def test_runs_that_cannot_be_used_are_refused(
    problem: Any, store: GradientStore, masks: Any, changes: dict[str, Any], words: str
) -> None:
    true = true_losses(problem, masks, np.linspace(0.5, 0.6, len(masks)))
    if "subset" in changes:
        runs = [true.runs[0].model_copy(update={"subset": changes["subset"]}), *true.runs[1:]]
        changes = {"runs": runs}
    elif "runs" in changes:
        changes = {"runs": true.runs[: changes["runs"]]}
    with pytest.raises(InputError, match=words):
        calibrated(store, true.model_copy(update=changes))


@pytest.mark.parametrize("answer", ["label", "text"])
def test_where_answers_are_several_tokens_calibration_goes_without_the_logistic_estimator(
    problem: Any, masks: Any, tmp_path: Path, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = GradientStore(problem.write(tmp_path, answer, tokens=2).uri)
    estimates = problem.estimator(ridge=10.0).mean_losses(masks)
    found = calibrated(store, true_losses(problem, masks, estimates))
    assert found.config.estimator == "gauss_newton"
    assert found.record.spearman is not None
    assert found.record.spearman > 0.9
    [message] = caplog.messages
    assert "The estimator 'logistic' is left out" in message
    with pytest.raises(GradientStoreError, match="expected the estimator 'gauss_newton'"):
        calibrated(store, true_losses(problem, masks, estimates), estimator="logistic")


def test_runs_correct_the_mixture_of_simulated_runs(problem: Any, store: GradientStore, masks: Any) -> None:
    raw = open_estimator(SubsetEstimationConfig(), store).mean_losses(masks)
    true = 0.3 + 0.9 * raw
    found = calibrated(store, true_losses(problem, masks, true), estimator="simulated")
    assert (found.config.estimator, found.expansion) == ("simulated", "meta")
    corrected = found.estimator.mean_losses(masks)
    assert np.abs(corrected - true).max() < 0.1 * np.abs(raw - true).max()
    np.testing.assert_allclose(found.residuals, true - corrected, atol=1e-8)
    assert found.record.slope > 0
    assert sum(found.estimator.members.values()) == pytest.approx(1)
    assert set(found.estimator.members) == set(MEMBERS)
    assert found.record.error_calibrated < found.record.error_raw


def test_two_runs_are_enough_to_set_the_mixtures_level(problem: Any, store: GradientStore) -> None:
    ends = np.array([[False] * TASKS, [True] * TASKS])
    raw = open_estimator(SubsetEstimationConfig(), store).mean_losses(ends)
    found = calibrated(store, true_losses(problem, ends, 1 + raw), estimator="simulated")
    np.testing.assert_allclose(found.estimator.mean_losses(ends), 1 + raw, rtol=0.02)
