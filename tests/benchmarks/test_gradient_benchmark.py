"""What projected gradients cost, beside plain forward and backward passes of the same batches in the same run.

`make bench-gradients` prints these and the peers' as a table.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import torch

from gradsift.components.shared.precision import resolve_precision
from tests.benchmarks.gradient_workloads import (
    WORKLOADS,
    costs,
    make_batches,
    make_model,
    peak_memory,
    plain,
    sketched,
)

ROUNDS = 5
pytestmark = pytest.mark.slow


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_cost_beside_forward_and_backward(
    benchmark: Any, capsys: pytest.CaptureFixture[str], workload: str, threads: int
) -> None:
    model = make_model(workload)
    batches = make_batches(model)
    works = {
        "loss": sketched(make_model(workload), batches),
        "loss and probe": sketched(make_model(workload), batches, probes=1),
    }
    if resolve_precision("auto") == "bf16":
        works["bf16 loss"] = sketched(make_model(workload), batches, precision="bf16")
    found = costs(plain(model, batches), works, ROUNDS)
    rows = sum(len(batch) for batch in batches)
    benchmark.extra_info |= {
        "workload": workload,
        "threads": threads,
        "rows": rows,
        "costs": {name: asdict(cost) for name, cost in found.items()},
    }
    benchmark.pedantic(works["loss"], rounds=1)
    with capsys.disabled():
        ratios = ", ".join(f"{name} {cost.ratio:.2f}" for name, cost in found.items() if name != "plain")
        print(f"\n{workload}, {threads} threads, CPU time over forward and backward: {ratios}")
    assert found["loss and probe"].ratio > found["loss"].ratio > 0.4, "one of them did not do the work"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_peak_memory_beside_forward_and_backward(
    benchmark: Any, capsys: pytest.CaptureFixture[str], workload: str
) -> None:
    bytes_plain, bytes_probe = peak_memory(workload, None), peak_memory(workload, 1)
    bytes_loss = benchmark.pedantic(peak_memory, args=(workload, 0), rounds=1)
    figures = {"plain": bytes_plain, "loss": bytes_loss, "loss and probe": bytes_probe}
    benchmark.extra_info |= {"workload": workload, "peak_bytes": figures}
    with capsys.disabled():
        ratios = ", ".join(f"{name} {figures[name] / bytes_plain:.2f}" for name in ("loss", "loss and probe"))
        print(f"\n{workload}, peak memory over forward and backward: {ratios}")
    assert bytes_loss < 3 * bytes_plain
