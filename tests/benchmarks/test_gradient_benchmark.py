"""What projected gradients cost, beside plain forward and backward passes of the same batches in the same run.

`make bench-gradients` prints these and the peers' (`bench_gradient_peers.py`) as one table.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gradsift.components.shared.models.precision import resolve_precision
from tests.benchmarks.gradient_workloads import (
    PLAIN,
    WORKLOADS,
    Cost,
    costs,
    make_batches,
    make_model,
    peak_memory,
    plain,
    sketched,
)

ROUNDS, ROWS = 5, 64
PROBES = {"loss": 0, "loss and probe": 1}
pytestmark = pytest.mark.slow


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_cost_beside_forward_and_backward(benchmark: Any, workload: str, threads: int) -> None:
    model = make_model(workload)
    batches = make_batches(model, ROWS)
    works = {name: sketched(make_model(workload), batches, probes) for name, probes in PROBES.items()}
    if resolve_precision("auto") == "bf16":
        works["loss in bf16"] = sketched(make_model(workload), batches, precision="bf16")

    def measure() -> dict[str, Cost]:
        return costs(plain(model, batches), works, ROUNDS)

    found = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["rows"] = [
        {"workload": workload, "threads": threads, "method": name, **cost.figures(ROWS)}
        for name, cost in found.items()
    ]
    assert found["loss and probe"].ratio > found["loss"].ratio > 0.4, "one of them did not do the work"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_peak_memory_beside_forward_and_backward(benchmark: Any, workload: str) -> None:
    def measure() -> dict[str, float]:
        return {name: peak_memory(workload, probes) for name, probes in {PLAIN: None, **PROBES}.items()}

    found = benchmark.pedantic(measure, rounds=1)
    plain_bytes = found[PLAIN]
    benchmark.extra_info["rows"] = [
        {"workload": workload, "method": name, "peak_mb": peak / 1e6, "peak_ratio": peak / plain_bytes}
        for name, peak in found.items()
    ]
    assert found["loss"] < 2 * plain_bytes
