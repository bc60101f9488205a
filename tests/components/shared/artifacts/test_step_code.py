"""A step's key follows the code that the step runs, and no other."""

import ast
import shutil
import tomllib
from pathlib import Path

import pytest

from gradsift.components.shared.artifacts import step_code
from gradsift.components.shared.artifacts.step_code import (
    code_digest,
    digest_of_code,
    module_digest,
)

PROJECT = Path(__file__).parents[4]
STEPS = sorted(
    path.parent.name
    for path in (PROJECT / "components").glob("*/step.py")
    if path.parent.name not in {"preflight", "promotion"}
)


@pytest.fixture
def components(tmp_path: Path) -> Path:
    """A copy of the components, to be edited."""
    return shutil.copytree(PROJECT / "components", tmp_path / "copied")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def write(folder: Path, sources: dict[str, str]) -> Path:
    for name, source in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return folder


@pytest.mark.parametrize("step", STEPS)
def test_a_copy_has_the_digest_of_what_is_installed(step: str, components: Path) -> None:
    assert digest_of_code(step, components) == code_digest(step)


@pytest.mark.parametrize(
    ("step", "module"),
    [
        ("data_preparation", "shared/kubeflow_trainer/train_job.py"),
        ("meta_training", "subset_estimation/estimators/ridge.py"),
        ("subset_estimation", "shared/training/worker.py"),
        ("evaluation", "evaluation/component.py"),
    ],
)
def test_a_module_that_a_step_does_not_import_leaves_its_digest(
    step: str, module: str, components: Path
) -> None:
    append(components / module, "\nADDED = 1\n")
    append(components / step / "README.md", "More words.\n")
    assert digest_of_code(step, components) == code_digest(step)


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("data_preparation", "shared/data/suites/corruption.py"),
        ("data_preparation", "shared/storage/s3.py"),
        ("meta_training", "shared/training/worker.py"),
        ("meta_training", "shared/models/language_model.py"),
        ("fine_tuning", "shared/__init__.py"),
        ("gradient_extraction", "shared/gradients/projection.py"),
        ("evaluation", "evaluation/step.py"),
    ],
)
def test_a_module_that_a_step_imports_changes_its_digest(step: str, file: str, components: Path) -> None:
    """At the top, inside a function, by its name behind `python -m`, and through these."""
    append(components / file, "\nADDED = 1\n")
    assert digest_of_code(step, components) != code_digest(step)


def packaged_data() -> list[Path]:
    """Return one file of every pattern of package data, relative to the components."""
    tool = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = []
    for name, patterns in tool["package-data"].items():
        parent, _, inner = name.removeprefix("gradsift.").partition(".")
        if parent == "components":
            folder = (PROJECT / parent).joinpath(*inner.split("."))
            for pattern in patterns:
                path = next(path for path in sorted(folder.glob(pattern)) if path.suffix != ".md")
                found.append(path.relative_to(PROJECT / parent))
    return found


@pytest.mark.parametrize("file", packaged_data(), ids=str)
def test_packaged_data_changes_the_digest_of_the_step_that_reads_it(file: Path, components: Path) -> None:
    step = "data_preparation" if file.parts[0] == "shared" else file.parts[0]  # it reads the suites
    append(components / file, " ")
    assert digest_of_code(step, components) != code_digest(step)


def test_comments_docstrings_and_layout_leave_the_digest(tmp_path: Path) -> None:
    described = '''"""What it does."""

LIMIT = 3
"""How many."""
BOUND = Field(3, description="how many.")


def double(x):
    """Double it."""
    return (
        2 * x  # twice
    )
'''
    sources = {
        "plain": "LIMIT = 3\nBOUND = Field(3)\ndef double(x): return 2 * x\n",
        "described": described,
        "other": "LIMIT = 4\nBOUND = Field(3)\ndef double(x): return 2 * x\n",
    }
    digests = {
        name: digest_of_code("made", write(tmp_path / name, {"made/step.py": source}))
        for name, source in sources.items()
    }
    assert digests["plain"] == digests["described"] != digests["other"]


def test_imports_for_type_checking_alone_do_not_count(tmp_path: Path) -> None:
    step = (
        "import typing\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from gradsift.components.typed import A\nelse:\n    from gradsift.components.loaded import A\n"
        "if typing.TYPE_CHECKING:\n    from gradsift.components.typed import B\n"
    )
    folder = write(tmp_path, {"made/step.py": step, "typed.py": "A = 1", "loaded.py": "A = 1"})
    before = digest_of_code("made", folder)
    append(folder / "typed.py", "\nB = 2\n")
    assert digest_of_code("made", folder) == before
    append(folder / "loaded.py", "\nB = 2\n")
    assert digest_of_code("made", folder) != before


@pytest.mark.parametrize(
    "line",
    [
        "import gradsift.components.rooms.inner.module",
        "from gradsift.components.rooms.inner.module import value",
        "from gradsift.components.rooms.inner import module",
        "from ..rooms.inner import module",
        "def late(): from gradsift.components.rooms.inner import module",
        "command = ['python', '-m', 'gradsift.components.rooms.inner.module']",
    ],
)
def test_a_module_is_found_at_any_depth_and_with_it_the_packages_that_hold_it(
    line: str, tmp_path: Path
) -> None:
    inner = "from gradsift.components.rooms.inner import"
    sources = {"made/step.py": line, "rooms/inner/module.py": f"{inner} again"}
    sources["rooms/inner/again.py"] = f"{inner} module"
    packages = {f"{name}__init__.py": "" for name in ("", "made/", "rooms/", "rooms/inner/")}
    folder = write(tmp_path, sources | packages)
    digests = {digest_of_code("made", folder)}
    files = [path for path in folder.rglob("*.py") if path.name != "step.py"]
    for path in files:
        append(path, "\nADDED = 1\n")
        digests.add(digest_of_code("made", folder))
    assert len(digests) == len(files) + 1 == 7


def test_a_field_that_a_newer_python_adds_to_its_trees_leaves_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image's Python plans where another's writes, so both have to name the same folder."""
    folder = write(tmp_path, {"made/step.py": "def f(): return None"})
    before = digest_of_code("made", folder)
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "added"))
    monkeypatch.setattr(ast.FunctionDef, "added", [], raising=False)
    assert digest_of_code("made", folder) == before


def test_a_step_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no module 'gradsift\.components\.made\.step'"):
        digest_of_code("made", tmp_path)


def test_a_modules_digest_follows_its_code_and_what_it_imports(
    components: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_code, "files", lambda package: components)
    name = f"{step_code.PACKAGE}.shared.models.model_loading"
    before = module_digest.__wrapped__(name)
    append(components / "subset_estimation" / "step.py", "\nNEW = 1\n")
    assert module_digest.__wrapped__(name) == before
    for module in ("model_loading", "prompt_format"):
        append(components / "shared" / "models" / f"{module}.py", "\nNEW = 1\n")
        assert module_digest.__wrapped__(name) != before
        before = module_digest.__wrapped__(name)
