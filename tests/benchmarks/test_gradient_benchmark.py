"""What projected gradients cost, beside plain forward and backward passes of the same batches in the same run.

`make bench-gradients` prints these and the peers' (`bench_gradient_peers.py`) as one table.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gradsift.components.gradient_extraction.gradients import extraction
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.precision import resolve_precision
from tests.benchmarks.gradient_workloads import (
    PLAIN,
    WORKLOADS,
    Cost,
    costs,
    extracted,
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


@pytest.mark.parametrize("wrong", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("workload", ["minilm_frozen_embeddings", "llama"])
def test_cost_of_a_shard_of_format_2_beside_format_1(
    benchmark: Any, workload: str, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Format 1 had no base margins, and backward passes of all rows for a probe, whatever was drawn."""
    monkeypatch.setattr(Answers, "sample", lambda answers, draws: drawn(answers, wrong))
    shards = {
        name: extracted(make_model(workload), ROWS, name == "format 2") for name in ("format 1", "format 2")
    }

    def of_format_1() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(extraction, "FEW_ROWS", -1.0)
            shards["format 1"]()

    found = benchmark.pedantic(lambda: costs(of_format_1, {"format 2": shards["format 2"]}, ROUNDS), rounds=1)
    ratio = found["format 2"].ratio
    benchmark.extra_info["rows"] = [{"workload": workload, "wrong_draws": wrong, "format_2_over_1": ratio}]
    assert 0.4 < ratio < 1.5


def drawn(answers: Answers, wrong: float) -> Tensor:
    """Return the right answers, and those least likely for a share of the rows."""
    label = answers.label.clone()
    rows = torch.linspace(0, len(label) - 1, round(wrong * len(label))).long()
    label[rows] = answers.least_likely()[rows]
    return label


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
