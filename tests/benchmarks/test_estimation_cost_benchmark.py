"""One core's time for the estimates of few and many tasks: the numbers behind `gradsift plan`."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.loss_estimator import open_simulated
from tests.benchmarks.estimation_workloads import half_subsets, linear_store

DIMENSION, SUBSETS = 400, 32


@pytest.mark.slow
@pytest.mark.parametrize(("tasks", "rows"), [(11, 250), (100, 1000), (1700, 60)])
def test_core_seconds(benchmark: Any, capsys: Any, tmp_path: Path, tasks: int, rows: int) -> None:
    store = linear_store(tmp_path / "store", tasks, rows, DIMENSION, margin=1.5, spread=1.5)
    masks = half_subsets(tasks, SUBSETS)
    figures = {}

    def measure() -> None:
        start = time.process_time()
        estimator = open_simulated(SubsetEstimationConfig(), store)
        figures["opening"] = time.process_time() - start
        for name, losses in (
            ("shortlisted", estimator.mixtures[0].search_losses),
            ("mean", estimator.mean_losses),
            ("detailed", estimator.losses),
        ):
            start = time.process_time()
            losses(masks)
            figures[name] = (time.process_time() - start) / SUBSETS

    with threadpool_limits(1, "blas"):
        benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info |= figures
    shutil.rmtree(tmp_path / "store")
    with capsys.disabled():
        print(f"\n{tasks} tasks of {rows} rows: {figures}")
