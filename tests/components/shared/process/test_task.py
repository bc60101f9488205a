"""A task's own process: it runs a component of the pipeline, and lists what is wrong as the log's last lines."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.pipeline_settings import defaults, form_of
from gradsift.components.shared.parameters.settings import SettingsError
from gradsift.components.shared.process.task import WIDTH, failure_lines
from gradsift.pipelines.pipeline import gradsift_pipeline


def run(
    task: str, inputs: dict[str, Any], artifacts: list[str], folder: Path
) -> "subprocess.CompletedProcess[str]":
    """Run a task of the compiled pipeline by its command, as KFP's launcher does."""
    container = gradsift_pipeline.pipeline_spec.deployment_spec["executors"][f"exec-{task}"]["container"]
    executor_input = {
        "inputs": {"parameterValues": inputs},
        "outputs": {
            "artifacts": {
                name: {
                    "artifacts": [
                        {
                            "name": name,
                            "type": {"schemaTitle": "system.Markdown", "schemaVersion": "0.0.1"},
                            "uri": str(folder / name),
                        }
                    ]
                }
                for name in artifacts
            },
            "outputFile": str(folder / "output.json"),
        },
    }
    given = [json.dumps(executor_input) if each == "{{$}}" else each for each in container["args"]]
    command = [sys.executable, *list(container["command"])[1:], *given]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_calls_the_component_and_writes_its_outputs(tmp_path: Path) -> None:
    settings = {"output_uri": str(tmp_path), "config": {"model_name": "complaints_v2"}}
    done = run("conclude-unchanged", {"settings": settings}, ["summary"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert r"registered model complaints\_v2: nothing was trained" in (tmp_path / "summary").read_text()
    assert "# Nothing new" in done.stdout
    assert (tmp_path / "output.json").exists()


@pytest.mark.slow
def test_wrong_input_ends_it_with_a_list(tmp_path: Path) -> None:
    form = form_of({**defaults(), "output_uri": str(tmp_path / "root"), "evaluate_seeds": 0, "target": ""})
    done = run("preflight", form, ["checks"], tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    begin = lines.index("2 things are wrong:")
    assert [line[:3] for line in lines[begin + 1 :] if not line.startswith(" ")] == ["1. ", "2. "]
    assert "evaluate_seeds" in "".join(lines[begin:])
    assert all(len(line) <= WIDTH for line in lines[begin:])


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (InputError("There is no task 'a'."), ["1 thing is wrong:", "1. There is no task 'a'."]),
        (
            SettingsError(["First, a sentence that is longer than the line is: expected less.", "Second."]),
            [
                "2 things are wrong:",
                "1. First, a sentence that is longer than the line is:",
                "   expected less.",
                "2. Second.",
            ],
        ),
        (InputError(f"No {'x' * 80}."), ["1 thing is wrong:", "1. No", f"   {'x' * 80}."]),
    ],
)
def test_each_problem_has_lines_of_its_own(error: InputError, lines: list[str]) -> None:
    assert failure_lines(error).splitlines() == lines
