"""Seconds a subset of both estimators, beside scikit-learn's logistic regression of the same rows in the same run.

All three judge the same 1,000 subsets by the same objective, with offsets of zero, which is what scikit-learn can
express. Gauss-Newton takes one step of it; the rank correlation says how much that matters. Scikit-learn fits
every 50th subset.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from gradsift.components.subset_estimation.config import SubsetEstimationConfig
from gradsift.components.subset_estimation.loss_estimator import LossEstimator
from gradsift.components.subset_estimation.margins import cross_entropy
from gradsift.components.subset_estimation.ridge import ridge_of
from gradsift.components.subset_estimation.selection import random_subsets
from gradsift.components.subset_estimation.task_statistics import TaskStatistics, TrainRows

TASKS, ROWS, DIMENSION, VALIDATION_ROWS, SUBSETS, EVERY = 50, 200, 200, 500, 1000, 50


@pytest.fixture(scope="module")
def rows() -> TrainRows:
    """Rows with margins of zero, whose features lean the way of their task."""
    generator = np.random.default_rng(0)
    task = np.repeat(np.arange(TASKS + 1), ROWS)
    lean = 0.1 * generator.normal(size=(TASKS + 1, DIMENSION))
    feature = generator.normal(size=(len(task), DIMENSION)) * np.geomspace(1, 0.1, DIMENSION) + lean[task]
    return TrainRows(task, np.zeros(len(task)), -feature / 2, blocks=1)


@pytest.fixture(scope="module")
def statistics(rows: TrainRows) -> TaskStatistics:
    gradients = [rows.gradient[rows.task == task] for task in range(TASKS + 1)]
    lean = gradients[-1].mean(axis=0)
    noise = 0.5 * np.random.default_rng(1).normal(size=(VALIDATION_ROWS, DIMENSION))
    return TaskStatistics(
        target="target",
        tasks=tuple(f"task{index}" for index in range(TASKS)),
        blocks=1,
        rows=np.full(TASKS + 1, float(ROWS)),
        gradient=np.stack([gradient.sum(axis=0) for gradient in gradients]),
        curvature=np.stack([gradient.T @ gradient for gradient in gradients]),
        validation_margin=np.zeros(VALIDATION_ROWS),
        validation_gradient=lean + noise * np.geomspace(1, 0.1, DIMENSION),
    )


@pytest.mark.parametrize("name", ["gauss_newton", "logistic"])
def test_seconds_a_subset_beside_scikit_learn(
    benchmark: Any, capsys: pytest.CaptureFixture[str], rows: TrainRows, statistics: TaskStatistics, name: str
) -> None:
    config = SubsetEstimationConfig(estimator=name, ridge=1.0)
    masks = random_subsets(TASKS, TASKS // 2, SUBSETS, np.random.default_rng(0))
    train = rows if name == "logistic" else None

    def estimate() -> Any:
        return LossEstimator(config, statistics, train).losses(masks).rows.mean(axis=1)

    with threadpool_limits(1):
        losses = benchmark.pedantic(estimate, rounds=1)
        peer_losses, peer_seconds = _timed(lambda: _scikit_learn(config, rows, statistics, masks[::EVERY]))
    ratio = peer_seconds * EVERY / benchmark.stats.stats.mean
    agreement = spearmanr(losses[::EVERY], peer_losses).statistic
    benchmark.extra_info |= {"times_faster_than_scikit_learn": ratio, "rank_correlation": agreement}
    with capsys.disabled():
        print(
            f"\n{name}: {ratio:.1f} times faster than scikit-learn's lbfgs, rank correlation {agreement:.4f}"
        )
    assert agreement > 0.9


def _scikit_learn(
    config: SubsetEstimationConfig, rows: TrainRows, statistics: TaskStatistics, masks: Any
) -> Any:
    """Return the losses after `LogisticRegression` on the rows of each subset."""
    feature, validation = -2 * rows.gradient, -2 * statistics.validation_gradient
    memberships = statistics.memberships(masks).astype(bool)
    ridges = ridge_of(config, statistics).of_rows(memberships @ statistics.rows)
    losses = []
    for members, ridge in zip(memberships[:, rows.task], ridges, strict=True):
        sign = np.where(np.arange(members.sum()) % 2, 1, -1)
        peer = LogisticRegression(C=1 / ridge, fit_intercept=False, max_iter=1000)
        peer.fit(sign[:, None] * feature[members], sign)
        losses.append(cross_entropy(validation @ peer.coef_[0]).mean())
    return np.array(losses)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
