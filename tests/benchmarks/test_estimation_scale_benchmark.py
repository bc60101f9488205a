"""A million rows of 1,000 tasks: the sums read from a store on disk, and 50 tasks chosen forward."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator
from tests.benchmarks.estimation_workloads import linear_store

TASKS, ROWS, DIMENSION, CHOSEN = 1000, 999, 400, 50

READING = """
import json, resource, sys, time
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.subset_estimation.statistics.store_reading import read_statistics
store = GradientStore(sys.argv[1])
start = time.perf_counter()
rows = read_statistics(store).rows.sum()
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"examples": rows, "seconds": seconds, "peak_memory_gib": peak}))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GradientStore]:
    folder = tmp_path_factory.mktemp("million")
    yield linear_store(folder, TASKS, ROWS, DIMENSION, margin=1.5, spread=1.5)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_sums_of_a_million_rows(benchmark: Any, capsys: Any, store: GradientStore) -> None:
    command = [sys.executable, "-c", READING, store.storage.uri]

    def read() -> dict[str, float]:
        found: dict[str, float] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        )
        return found

    figures = benchmark.pedantic(read, rounds=1)
    gigabytes = sum(shard.bytes for shard in store.shards) / 1e9
    figures["gigabytes_a_second"] = gigabytes / figures["seconds"]
    _report(benchmark, capsys, figures)
    assert figures["examples"] == (TASKS + 1) * ROWS
    assert figures["peak_memory_gib"] < 8


@pytest.mark.slow
def test_forward_selection_of_50_of_1000_tasks(benchmark: Any, capsys: Any, store: GradientStore) -> None:
    estimator = open_estimator(SubsetEstimationConfig(estimator="gauss_newton"), store)
    solves = 0

    def select() -> list[float]:
        nonlocal solves
        chosen, path = np.zeros(TASKS, bool), []
        for _ in range(CHOSEN):
            outside = np.flatnonzero(~chosen)
            losses = estimator.mean_losses(chosen | np.eye(TASKS, dtype=bool)[outside])
            chosen[outside[losses.argmin()]] = True
            path.append(float(losses.min()))
            solves += len(outside)
        return path

    start = time.process_time()
    path = benchmark.pedantic(select, rounds=1)
    processor_seconds = time.process_time() - start
    figures = {
        "seconds": benchmark.stats.stats.mean,
        "solves_per_second": solves / benchmark.stats.stats.mean,
        "processor_milliseconds_a_solve": 1e3 * processor_seconds / solves,
    }
    _report(benchmark, capsys, figures)
    assert len(path) == CHOSEN
    assert np.isfinite(path).all()


def _report(benchmark: Any, capsys: Any, figures: dict[str, float]) -> None:
    benchmark.extra_info |= figures
    with capsys.disabled():
        print(f"\n{benchmark.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
