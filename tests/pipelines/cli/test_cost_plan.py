"""`gradsift plan` from numbers, as a user calls it, and what it refuses."""

from typing import Any

import pytest
from typer.testing import CliRunner

from gradsift.components.shared.errors import InputError
from gradsift.pipelines.cli.command_line import app
from gradsift.pipelines.cli.cost_plan import SuiteNumbers

LARGE = ["--source-count=1700", "--train-rows=2000000", "--tokens-per-row=300", "--model-parameters=8e9"]


def test_a_large_run_is_planned_from_numbers_in_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, ["plan", *LARGE, "--set=model_lora_rank=16", "--set=gpus=8"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    [meta] = [line for line in lines if "meta-training" in line]
    # 2,000,000 rows twice, 300 tokens each, (4 + 2) x 8e9 operations per token, at 40% of 8 x 312 TFLOP/s.
    assert " ".join(meta.split()) == "meta-training 1 125,000 4,000,000 1.2G 57.6E 128 16 h 1"
    assert "estimated subsets" in " ".join(lines)


def test_numbers_make_tasks_of_one_size() -> None:
    numbers = SuiteNumbers.of(3, 10, 5, 7.0)
    assert numbers is not None
    index = numbers.index("target", 64)
    assert [task.rows["train"] for task in index.tasks] == [3, 3, 2, 2]
    assert index.task("target").rows == {"train": 3, "val": 5, "test": 5}
    assert index.auxiliary_tasks == ["source-1", "source-2", "source-3"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((3, None, 5, 7.0), "Some of the options source-count, train-rows and tokens-per-row are missing"),
        (
            (3, 3, 5, 7.0),
            "Option train-rows is 3: expected at least one row for each of the 3 sources and the",
        ),
    ],
)
def test_numbers_that_make_no_suite_are_refused(given: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SuiteNumbers.of(*given)


def test_no_numbers_read_the_suite() -> None:
    assert SuiteNumbers.of(None, None, 1000, None) is None
