"""What pipelines/README.md tells to type exists: commands, options, parameters, values, variables, places."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from gradsift.components.shared import images
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings, defaults
from gradsift.pipelines import platform
from gradsift.pipelines.cli.command_line import app
from gradsift.pipelines.kubeflow.schedules import read_schedules

ROOT = Path(__file__).parents[2]
README = ROOT / "pipelines" / "README.md"
TEXT = README.read_text()


def commands(program: str) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    inline = re.findall(rf"`({program} [^`]+)`", TEXT)
    return [line.split() for line in [*lines, *inline] if line.startswith(f"{program} ")]


@pytest.mark.parametrize("command", commands("gradsift"), ids=" ".join)
def test_a_gradsift_command_and_its_options_exist(command: list[str]) -> None:
    found: Any = get_command(app)
    for word in command[1:]:
        if not hasattr(found, "commands"):
            break
        found = found.commands[word]
    known = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in command if word.startswith("--")} <= known


def test_parameters_named_exist() -> None:
    known = defaults()
    prefixes = {name.split("_")[0] for name in known} - {"output", "fine"}
    named = re.findall(rf"`((?:{'|'.join(prefixes)})_[a-z0-9_]+)\b", TEXT)
    named += re.findall(r"--set (\w+)=s3", TEXT)
    assert named
    assert [name for name in named if name not in known] == []


def test_values_of_the_chart_exist() -> None:
    values = yaml.safe_load((ROOT / "charts" / "gradsift" / "values.yaml").read_text())
    for name in [*re.findall(r"--set ((?:\w+\.)+\w+)=", TEXT), "modelCache.enabled", "hub.offline"]:
        found = values
        for key in name.split("."):
            found = found[key]


def test_variables_of_compilation_are_those_that_the_code_reads() -> None:
    code = Path(platform.__file__).read_text() + Path(images.__file__).read_text()
    named = set(re.findall(r"GRADSIFT_\w+", TEXT))
    assert named == set(re.findall(r'"(GRADSIFT_\w+)"', code))


def test_the_schedule_is_one_that_can_be_applied(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "schedules.yaml"
    path.write_text(example)
    [nightly] = read_schedules(path).schedules
    PipelineSettings.of(nightly.parameters)
    assert nightly.parameters["promote_model_name"] == "complaints"


@pytest.mark.parametrize("file", ["pipelines", "components/preflight", "components/promotion"])
def test_linked_files_exist(file: str) -> None:
    folder = ROOT / file
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (folder / "README.md").read_text())
    assert [link for link in links if not (folder / link).exists()] == []
