"""The mounted environment of a pod, in folders as Kubernetes lays out the volume of a Secret."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from gradsift.components.shared.process.pod_environment import MOUNTS, given_gpus, load_mounted_environment

IMPORT = """
import os, sys
from pathlib import Path

mounts, before, glob = Path(sys.argv[1]), set(sys.modules), Path.glob

def glob_in_mounts(folder, pattern):
    imported = {name.partition(".")[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names
    print(folder, *imported)
    return glob(mounts, pattern)

Path.glob = glob_in_mounts
import gradsift.components
Path.glob = glob
print(os.environ["HF_TOKEN"])
"""
"""Imports gradsift with another folder in the place of the pod's."""


@pytest.fixture(autouse=True)
def _environment_is_put_back() -> Iterator[None]:
    with patch.dict(os.environ):
        yield


def mount(folder: Path, data: dict[str, str]) -> None:
    """Lay out a volume of a Secret or a ConfigMap as the kubelet does, to replace all keys at once."""
    version = folder / "..2026_01_02_03_04_05.123456789"
    version.mkdir(parents=True)
    (folder / "..data").symlink_to(version.name)
    for key, value in data.items():
        (version / key).write_text(value)
        (folder / key).symlink_to(f"..data/{key}")


def changes(folder: Path) -> dict[str, str]:
    """Load a folder of mounts and return the variables that are new or have another value."""
    before = dict(os.environ)
    load_mounted_environment(folder)
    assert before.keys() <= os.environ.keys()
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def test_keys_become_variables_and_replace_those_of_the_image(tmp_path: Path) -> None:
    os.environ["HOME"] = "/root"
    mount(tmp_path / "secret", {"PLANTED_KEY_2": "planted = value\nof two lines\n", "PLANTED_EMPTY": ""})
    mount(tmp_path / "settings", {"HOME": "/tmp"})
    assert changes(tmp_path) == {
        "PLANTED_KEY_2": "planted = value\nof two lines\n",
        "PLANTED_EMPTY": "",
        "HOME": "/tmp",
    }


def test_a_key_that_names_no_variable_is_left_out(tmp_path: Path) -> None:
    mount(tmp_path / "secret", dict.fromkeys(["tls.crt", "planted_key", "PLANTED-KEY", "1PLANTED", "_"], "x"))
    assert changes(tmp_path) == {}


def test_a_folder_and_a_file_beside_the_mounts_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret" / "PLANTED_FOLDER").mkdir(parents=True)
    (tmp_path / "PLANTED_FILE").write_text("x")
    assert changes(tmp_path) == {}


def test_a_folder_that_is_missing_is_nothing(tmp_path: Path) -> None:
    assert changes(tmp_path / "missing") == {}


def test_a_secret_that_is_missing_is_an_empty_mount(tmp_path: Path) -> None:
    mount(tmp_path / "secret", {})
    assert changes(tmp_path) == {}


def test_it_is_loaded_before_another_package_can_read_the_environment(tmp_path: Path) -> None:
    mount(tmp_path / "secret", {"HF_TOKEN": "planted-token"})
    command = [sys.executable, "-c", IMPORT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [f"{MOUNTS} gradsift", "planted-token"]


def test_the_environment_says_how_many_gpus_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADSIFT_GPUS", raising=False)
    assert given_gpus() == 0
    for value, expected in [("", 0), ("0", 0), ("2", 2)]:
        monkeypatch.setenv("GRADSIFT_GPUS", value)
        assert given_gpus() == expected
