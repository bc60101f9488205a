"""The table of all parameters is current and whole."""

import re

from gradsift.components.shared.parameters.pipeline_settings import defaults, form_parameters
from gradsift.pipelines.parameter_table import FILE, parameter_table


def test_the_committed_table_is_a_fresh_one() -> None:
    assert FILE.read_text() == parameter_table(), "run `make compile` and commit the result"


def test_every_parameter_is_in_it_once_with_a_description() -> None:
    rows = re.findall(
        r"^\| (?:\*\*)?`(\w+)`(?:\*\*)? \| (.+?) \| `(.+?)` \| (.+) \|$", parameter_table(), re.MULTILINE
    )
    assert sorted(name for name, *_ in rows) == sorted(defaults())
    assert all(description for *_, description in rows)
    assert ("evaluate_seeds", "whole number", "3") in [row[:3] for row in rows]


def test_the_fields_of_the_form_are_in_bold() -> None:
    assert set(re.findall(r"^\| \*\*`(\w+)`\*\*", parameter_table(), re.MULTILINE)) == set(form_parameters())


def test_choices_are_listed() -> None:
    assert "| `train_precision` | `auto` or `bf16` or `float32` |" in parameter_table()
