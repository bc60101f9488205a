"""How the runs that confirm a choice are divided into rounds, and what a choice must keep to."""

import pytest

from gradsift.components.shared.parameters.confirmation import ConfirmationConfig
from gradsift.components.shared.parameters.estimation import EstimationSettings


@pytest.mark.parametrize(
    ("runs", "rounds"), [(0, (0, 0)), (3, (1, 0)), (4, (1, 1)), (6, (2, 2)), (7, (3, 2))]
)
def test_half_of_the_runs_beside_none_and_all_wait_for_the_others(runs: int, rounds: tuple[int, int]) -> None:
    assert ConfirmationConfig(runs=runs).rounds == rounds


@pytest.mark.parametrize(
    ("limits", "permitted"),
    [
        ({}, True),
        ({"required_tasks": ["a"], "max_tasks": 2, "max_rows": 100}, True),
        ({"required_tasks": ["c"]}, False),
        ({"excluded_tasks": ["b"]}, False),
        ({"max_tasks": 1}, False),
        ({"max_rows": 99}, False),
    ],
)
def test_a_choice_keeps_to_the_limits(limits: dict[str, object], permitted: bool) -> None:
    assert EstimationSettings(**limits).permits(["a", "b"], 100) is permitted


def test_the_name_of_a_source_that_was_cut_stands_for_all_its_parts() -> None:
    limits = EstimationSettings(required_tasks=["a", "mix#code"], excluded_tasks=["b", "mr"])
    tasks = ["a", "mix#code", "mix#other", "b#00", "b#01", "mr", "mr_flipped"]
    found = limits.for_tasks(tasks)
    assert found.required_tasks == ["a", "mix#code"]
    assert found.excluded_tasks == ["b#00", "b#01", "mr"]
    assert limits.for_tasks(["a", "mix#code", "b", "mr"]) == limits
