"""Impossible settings are refused before any data is read."""

from typing import Any

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.data import DataPreparationConfig


def test_the_defaults_are_the_demo() -> None:
    assert DataPreparationConfig() == DataPreparationConfig("demo", "sst2", [], 0, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"suite": ""},
            "suite is empty: expected 'demo', a folder, an s3:// address or the path of a YAML file.",
        ),
        ({"target": ""}, "target is empty: expected the name of a task of the suite."),
        (
            {"auxiliary_tasks": ["mr", "sst2"]},
            "auxiliary_tasks holds the target 'sst2': expected other tasks of the suite only, as the "
            "target's own rows are always used.",
        ),
        (
            {"auxiliary_tasks": ["mr", "mr"]},
            "auxiliary_tasks holds 'mr' more than once: expected each task once.",
        ),
        ({"max_rows_per_task": -1}, "max_rows_per_task is -1: expected a number of rows, or 0 for all."),
        ({"seed": -5}, "seed is -5: expected a whole number from 0 up."),
    ],
)
def test_an_impossible_value_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        DataPreparationConfig(**settings)
    assert str(caught.value) == message
