"""Settings of the evaluation, and how many runs they allow."""

import re

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.evaluation import EvaluationConfig


@pytest.mark.parametrize("name", ["seeds", "max_runs", "bootstrap"])
def test_a_count_below_one_is_an_error(name: str) -> None:
    message = f"Parameter {name} is 0: expected 1 or more."
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        EvaluationConfig(**{name: 0})


def test_a_seed_below_zero_is_an_error() -> None:
    with pytest.raises(InputError, match=r"^Parameter seed is -1: expected 0 or more\.$"):
        EvaluationConfig(seed=-1)


@pytest.mark.parametrize(
    ("seeds", "max_runs", "subsets", "expected"),
    [(3, 12, 4, 3), (3, 12, 5, 2), (3, 12, 2, 3), (3, 12, 1, 3), (3, 2, 4, 1), (1, 12, 4, 1)],
)
def test_runs_are_cut_to_fit_down_to_one_each(seeds: int, max_runs: int, subsets: int, expected: int) -> None:
    assert EvaluationConfig(seeds=seeds, max_runs=max_runs).seeds_for(subsets) == expected
