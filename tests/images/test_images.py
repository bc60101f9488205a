"""What is known of the images before they are built: what goes in, and that each step finds its packages."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "pipelines" / "pipeline.yaml"
EXTRAS: dict[str, set[str]] = {"cpu": set(), "train": {"train", "demo"}}
# Chosen by the one who builds the image, and therefore in no lock.
TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*|setuptools")
# What else the images are for: the chart's doctor and schedules, and what a user calls in a shell.
COMMANDS = [
    "gradsift.pipelines.cli.command_line",
    "gradsift.pipelines.cli.doctor",
    "gradsift.pipelines.cli.schedule_commands",
]
REFUSE_OTHERS = '''
import sys
allowed = set(sys.argv[1].split())
class Installed:
    """What finds modules, but for those of packages that are not in the image."""
    def __init__(self, finders):
        self.finders = finders
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if path is None and top in owners and not owners[top] & allowed:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)
    def find_distributions(self, *context):
        return (each for finder in self.finders if hasattr(finder, "find_distributions")
            for each in finder.find_distributions(*context))
from importlib.metadata import packages_distributions
from packaging.utils import canonicalize_name
owners = {top: {canonicalize_name(name) for name in names} for top, names in packages_distributions().items()}
for top in owners:
    for name in [name for name in sys.modules if name.split(".")[0] == top and not owners[top] & allowed]:
        del sys.modules[name]
sys.meta_path[:] = [Installed(list(sys.meta_path))]
exec(sys.argv[2])
'''


def pins(path: Path) -> dict[str, str]:
    """Return the versions that a lock pins here; every pin must have hashes."""
    versions = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        pin, *hashes = entry.split(" --hash=sha256:")
        assert hashes, entry
        requirement = Requirement(pin)
        if not requirement.marker or requirement.marker.evaluate():
            versions[canonicalize_name(requirement.name)] = str(requirement.specifier)
    return versions


def lock(image: str) -> dict[str, str]:
    return pins(ROOT / "images" / image / "requirements.lock")


def needed(image: str) -> set[str]:
    """Walk from the project's requirements along those of the installed packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [
        line for extra in EXTRAS[image] for line in project["optional-dependencies"][extra]
    ]
    waiting = [Requirement(line) for line in lines]
    found: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                inner = [Requirement(line) for line in importlib.metadata.requires(name) or []]
                waiting += [
                    each for each in inner if not each.marker or each.marker.evaluate({"extra": extra})
                ]
    return {name for name, _ in found if not TORCH.fullmatch(name)}


@pytest.mark.parametrize("image", EXTRAS)
def test_an_images_lock_holds_what_the_project_needs_at_the_projects_versions(image: str) -> None:
    assert lock(image).items() <= pins(ROOT / "requirements.lock").items()
    assert set(lock(image)) == needed(image), "run `make lock`"


def test_the_cpu_image_has_no_torch() -> None:
    assert not {"torch", "deepspeed"} & set(lock("cpu"))


def test_images_carry_the_projects_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {
        executor["container"]["image"]
        for executor in next(yaml.safe_load_all(COMMITTED.read_text()))["deploymentSpec"][
            "executors"
        ].values()
    }
    assert images == {f"gradsift/cpu:{version}", f"gradsift/train:{version}"}


def imports_of(container: dict[str, Any]) -> Iterator[str]:
    """Yield the imports of a task: its program, the component's module, and the body of its function."""
    *_, program, task, place = container["command"][-4:]
    module = ROOT.joinpath("components", *place.split("."), "component.py")
    yield from (f"import {name}" for name in (program, task, f"gradsift.components.{place}.component"))
    [function] = [
        node
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == container["args"][-1]
    ]
    own = [ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert own, "the step itself is imported"
    yield from own


@pytest.mark.slow
@pytest.mark.parametrize("image", EXTRAS)
def test_every_step_finds_the_packages_it_imports_in_its_image(image: str) -> None:
    """Run the imports of what a task of each component runs where all other packages are refused."""
    executors = next(yaml.safe_load_all(COMMITTED.read_text()))["deploymentSpec"]["executors"]
    containers = [
        executor["container"]
        for executor in executors.values()
        if executor["container"]["image"].startswith(f"gradsift/{image}:")
    ]
    assert containers
    imports = {line for container in containers for line in imports_of(container)}
    program = "\n".join(sorted(imports) + [f"import {name}" for name in COMMANDS])
    allowed = " ".join({"gradsift", *lock(image), *(["torch"] if image == "train" else [])})
    done = subprocess.run(
        [sys.executable, "-c", REFUSE_OTHERS, allowed, program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_registry_of_ones_own_changes_the_images_and_nothing_else(tmp_path: Path) -> None:
    mirrored = "registry.example.com/gradsift/cpu@sha256:" + "a" * 64
    environment = {**os.environ, "GRADSIFT_CPU_IMAGE": mirrored}
    command = [sys.executable, "-m", "gradsift.pipelines.cli.command_line", "compile", "--to"]
    compiled = tmp_path / "pipeline.yaml"
    subprocess.run([*command, str(compiled)], check=True, env=environment, timeout=120)
    found = compiled.read_text()
    assert mirrored in found
    expected = COMMITTED.read_text().replace("image: gradsift/cpu:0.1.0", f"image: {mirrored}")
    assert list(yaml.safe_load_all(found)) == list(yaml.safe_load_all(expected))
