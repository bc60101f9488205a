"""Thousands of subsets of 100 tasks by both estimators, and beside scikit-learn's logistic regression.

The store holds 100,000 train rows of 400 numbers, and subsets are of half of the tasks. What is compared with
scikit-learn has margins of zero at theta*, since it cannot express offsets; then all three have the same
objective, of which Gauss-Newton takes one step. The rank correlation says how much that matters. Scikit-learn
is run with its default tolerance and with one like that of `logistic`. Processor seconds over the number of
cores are the seconds that a machine without other work would take.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from os import cpu_count
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.linear_model.margins import cross_entropy, linear_margins
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.logistic import GRADIENT_TOLERANCE
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator, open_simulated
from gradsift.components.subset_estimation.estimators.ridge import ridge_of
from gradsift.components.subset_estimation.statistics import start_reading
from gradsift.components.subset_estimation.statistics.store_reading import read_train_rows
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, TaskStatistics
from tests.benchmarks.estimation_workloads import half_subsets, linear_store

TASKS, ROWS, DIMENSION = 100, 990, 400
COMPARED, PEERS = 192, 5


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GradientStore]:
    """Rows that a model has learned, most of them well."""
    folder = tmp_path_factory.mktemp("learned")
    yield linear_store(folder, TASKS, ROWS, DIMENSION, margin=1.5, spread=1.5)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GradientStore]:
    """Rows with margins of zero."""
    folder = tmp_path_factory.mktemp("unlearned")
    yield linear_store(folder, TASKS, ROWS, DIMENSION, margin=0, spread=0)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "subsets"), [("gauss_newton", 10_000), ("logistic", 1000)])
@pytest.mark.parametrize("errors", [False, True], ids=["means", "with standard errors"])
def test_thousands_of_subsets_from_a_store(
    benchmark: Any, capsys: Any, learned: GradientStore, name: str, subsets: int, errors: bool
) -> None:
    masks = half_subsets(TASKS, subsets)
    figures: dict[str, float] = {}

    def estimate() -> Any:
        estimator, figures["opening_seconds"] = _timed(
            lambda: open_estimator(SubsetEstimationConfig(estimator=name), learned)
        )
        return estimator.losses(masks).estimates().loss if errors else estimator.mean_losses(masks)

    processor = time.process_time()
    losses = benchmark.pedantic(estimate, rounds=1)
    figures["processor_seconds"] = time.process_time() - processor
    figures["seconds"] = benchmark.stats.stats.mean
    _report(benchmark, capsys, **figures, subsets_per_second=subsets / figures["seconds"])
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_simulated_runs_of_thousands_of_subsets(benchmark: Any, capsys: Any, learned: GradientStore) -> None:
    """The search form of 10,000 subsets, the exact form of some, and what the sample of rows changes."""
    masks = half_subsets(TASKS, 10_000)
    config = SubsetEstimationConfig()
    estimator, opening = _timed(lambda: open_simulated(config, learned))
    mixture = estimator.mixtures[0]
    processor = time.process_time()
    search = benchmark.pedantic(lambda: mixture.search_losses(masks), rounds=1)
    searched = time.process_time()
    exact = estimator.mean_losses(masks[:COMPARED])
    exact_seconds = (time.process_time() - searched) / cpu_count() / COMPARED
    few = masks[:PEERS]
    errors = np.abs(_all_rows(config, learned, few) - exact[:PEERS])
    _report(
        benchmark,
        capsys,
        opening_seconds=opening,
        search_seconds=(searched - processor) / cpu_count(),
        exact_seconds_per_subset=exact_seconds,
        rank_correlation_of_search_and_exact=float(spearmanr(search[:COMPARED], exact).statistic),
        largest_change_by_sampling_rows=float(errors.max()),
        deviation_of_subsets=float(exact.std()),
    )
    assert np.isfinite(search).all()


def _all_rows(config: SubsetEstimationConfig, store: GradientStore, masks: BoolArray) -> Any:
    """Return the same estimates with every train row simulated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start_reading, "SAMPLED_ROWS", 10**9)
        return open_simulated(config, store).mean_losses(masks)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gauss_newton", "logistic"])
def test_seconds_a_subset_beside_scikit_learn(
    benchmark: Any, capsys: Any, unlearned: GradientStore, name: str
) -> None:
    config = SubsetEstimationConfig(estimator=name, ridge=1.0)
    estimator = open_estimator(config, unlearned)
    masks = half_subsets(TASKS, COMPARED)
    losses = benchmark.pedantic(lambda: estimator.mean_losses(masks), rounds=3, warmup_rounds=1)
    seconds = benchmark.stats.stats.median / COMPARED
    peers, by_default, converged = _scikit_learn(config, unlearned, estimator.statistics, masks[:PEERS])
    _report(
        benchmark,
        capsys,
        times_faster_than_scikit_learn=converged / seconds,
        times_faster_than_scikit_learn_by_default=by_default / seconds,
        rank_correlation=float(spearmanr(losses[:PEERS], peers).statistic),
        largest_relative_difference=float(np.abs(losses[:PEERS] / peers - 1).max()),
    )
    assert np.corrcoef(losses[:PEERS], peers)[0, 1] > 0.9


def _scikit_learn(
    config: SubsetEstimationConfig, store: GradientStore, statistics: TaskStatistics, masks: BoolArray
) -> tuple[Any, float, float]:
    """Return the losses after lbfgs on the rows of each subset [m], and its mean seconds at both tolerances."""
    rows = read_train_rows(store).by_task()
    ridge = ridge_of(config, statistics)
    _, validation = linear_margins(statistics.validation_margin, statistics.validation_gradient)
    losses, seconds = [], []
    for membership in statistics.memberships(masks):
        feature = np.concatenate([rows[task][1] for task in np.flatnonzero(membership)]).astype(np.float64)
        sign = np.where(np.arange(len(feature)) % 2, 1, -1)
        feature *= sign[:, None]
        strength = ridge.of_rows(np.array([float(len(feature))]))[0]
        tolerance = GRADIENT_TOLERANCE * np.linalg.norm(feature / 2) / len(feature)
        for tol in (1e-4, tolerance):
            peer = LogisticRegression(C=1 / strength, fit_intercept=False, tol=tol, max_iter=10_000)
            seconds.append(_timed(partial(peer.fit, feature, sign))[1])
        losses.append(cross_entropy(validation @ peer.coef_[0]).mean())
    return np.array(losses), float(np.mean(seconds[::2])), float(np.mean(seconds[1::2]))


def _report(benchmark: Any, capsys: Any, **figures: float) -> None:
    benchmark.extra_info |= figures
    with capsys.disabled():
        print(f"\n{benchmark.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
