"""What the command line says of itself, and which parameters it takes."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gradsift.components.shared.parameters.pipeline_settings import defaults
from gradsift.pipelines.cli.command_line import app
from gradsift.pipelines.local import local_run

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the parameters of the runs that the test starts, which end at once."""
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr(local_run, "run_pipeline", lambda parameters, _: runs.append(parameters))
    return runs


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"gradsift {version('gradsift')}\n")


def test_an_example_gives_the_parameters_that_nothing_else_gives(started: list[dict[str, Any]]) -> None:
    arguments = ["run", "--example=periods", "--set=evaluate_seeds=1", "--output=elsewhere"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    [given] = started
    assert (given["suite"], given["target"], given["meta_sampler"]) == ("demo-periods", "reviews", "l2s")
    assert (given["evaluate_seeds"], given["output_uri"]) == (1, str(Path("elsewhere").absolute()))
    assert given.keys() == defaults().keys()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--example=group"], "There is no example 'group': expected one of groups, periods."),
        (
            ["--example=groups", "--parameters=run.yaml"],
            "Options parameters and example are both given: expected one of them.",
        ),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_example_that_cannot_be_taken_starts_nothing(
    command: str, arguments: list[str], sentence: str, started: list[dict[str, Any]], gradsift: CommandLine
) -> None:
    code, _, errors = gradsift(command, *arguments)
    assert (code, errors) == (2, f"Error: {sentence}\n")
    assert started == []
