"""Rows per second of training a real language model with adapters, beside TRL's SFTTrainer in the same run."""

import statistics
from typing import Any

import pytest

from gradsift.components.shared.models.precision import resolve_precision
from gradsift.components.shared.parameters.training import Precision
from tests.benchmarks.training_rates import GRADSIFT, TRL, rate, recipe_of

STEPS, ROUNDS, THREADS = 2, 2, 1
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_per_second_beside_trl(benchmark: Any, precision: Precision) -> None:
    if precision == "bf16" != resolve_precision("auto"):
        pytest.skip("this machine does not multiply bf16 in hardware")
    recipe = recipe_of(STEPS, precision)

    def measure() -> dict[str, list[dict[str, float]]]:
        """Train by both in turn, so that other work of the machine slows both."""
        rounds = [{name: rate(name, recipe, THREADS) for name in (TRL, GRADSIFT)} for _ in range(ROUNDS)]
        return {name: [each[name] for each in rounds] for name in (TRL, GRADSIFT)}

    found = benchmark.pedantic(measure, rounds=1)
    per_cpu_second = "rows_per_CPU_second"
    benchmark.extra_info["rows"] = [
        {
            "trained_by": name,
            "precision": precision,
            **{figure: statistics.median(each[figure] for each in rates) for figure in rates[0]},
            "ratio": statistics.median(
                each[per_cpu_second] / other[per_cpu_second]
                for each, other in zip(rates, found[TRL], strict=True)
            ),
        }
        for name, rates in found.items()
    ]
    assert all(each["rows_at_once"] == found[TRL][0]["rows_at_once"] for each in found[GRADSIFT])
