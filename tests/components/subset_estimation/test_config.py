"""Settings out of range are refused by name."""

from dataclasses import fields
from typing import Any

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("estimator", "gauss-newton"),
        ("method", "greedy"),
        ("ridge_scaling", "per_task"),
        ("ridge", 0.0),
        ("ridge", -1.0),
        ("ridge", float("nan")),
        ("ridge", float("inf")),
        ("random_subsets", 0),
        ("subset_fraction", 0.0),
        ("subset_fraction", 1.5),
        ("ensemble_top", -1),
        ("ensemble_threshold", float("nan")),
        ("ensemble_threshold", float("inf")),
        ("stopping", "first"),
        ("max_tasks", -1),
        ("max_rows", -1),
        ("random_baseline_draws", 0),
        ("seed", -1),
    ],
)
def test_a_setting_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{field} is .*: expected .*\.$"):
        SubsetEstimationConfig(**{field: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"required_tasks": ["mr", "trec", "mr"]},
            "required_tasks holds 'mr' more than once: expected each task once.",
        ),
        (
            {"excluded_tasks": ["mr", "mr"]},
            "excluded_tasks holds 'mr' more than once: expected each task once.",
        ),
        (
            {"required_tasks": ["mr", "trec"], "excluded_tasks": ["trec"]},
            "required_tasks holds 'trec', which excluded_tasks holds too: expected it in one of them.",
        ),
        (
            {"required_tasks": ["mr", "trec"], "max_tasks": 1},
            "max_tasks is 1: expected at least the 2 required tasks.",
        ),
    ],
)
def test_lists_of_tasks_that_contradict_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        SubsetEstimationConfig(**settings)
    assert str(error.value) == message


def test_every_field_is_documented() -> None:
    documented = SubsetEstimationConfig.__doc__ or ""
    assert all(f"        {field.name}: " in documented for field in fields(SubsetEstimationConfig))
