"""The table of all parameters is current and whole."""

import re

from gradsift.pipelines.parameter_table import FILE, parameter_table
from gradsift.pipelines.parameters import defaults


def test_the_committed_table_is_a_fresh_one() -> None:
    assert FILE.read_text() == parameter_table(), "run `make compile` and commit the result"


def test_every_parameter_is_in_it_once_with_a_description() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `(.+?)` \| (.+) \|$", parameter_table(), re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(defaults())
    assert all(description for *_, description in rows)
    assert ("evaluate_seeds", "whole number", "3") in [row[:3] for row in rows]


def test_only_the_run_root_has_no_step() -> None:
    general = parameter_table().split("## Data preparation")[0]
    assert re.findall(r"^\| `(\w+)`", general, re.MULTILINE) == ["output_uri"]
