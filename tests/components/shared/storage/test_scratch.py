"""The scratch folder belongs to one user, whoever else works on the machine."""

import os
import tempfile
from pathlib import Path

import pytest

from gradsift.components.shared.artifacts.step_output import produce, work_folder
from gradsift.components.shared.errors import StorageError
from gradsift.components.shared.storage.local import LocalStorage
from gradsift.components.shared.storage.scratch import scratch_path


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_it_is_named_for_the_user_and_closed_to_others(temporary: Path) -> None:
    previous = os.umask(0)
    try:
        path = scratch_path("a", "b")
    finally:
        os.umask(previous)
    root = temporary / f"gradsift-{os.geteuid()}"
    assert path == root / "a" / "b"
    assert root.stat().st_mode & 0o777 == 0o700
    assert scratch_path() == root


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    root = scratch_path()
    if os.geteuid() == 0:
        os.chown(root, 4711, 4711)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        root.rename(root.with_name("gradsift-4711"))
    with pytest.raises(StorageError, match=r"belongs to another user.*expected a folder of this user"):
        scratch_path()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_is_open_to_others_is_refused(mode: int) -> None:
    scratch_path().chmod(mode)
    with pytest.raises(StorageError, match="open to others"):
        scratch_path()


def test_a_link_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (temporary / f"gradsift-{os.geteuid()}").symlink_to(victim)
    with pytest.raises(StorageError, match="is a link"):
        work_folder("s3://bucket/root", "some-step")
    assert list(victim.iterdir()) == []


def test_a_file_in_its_place_is_one_sentence(temporary: Path) -> None:
    (temporary / f"gradsift-{os.geteuid()}").write_text("")
    with pytest.raises(StorageError, match="file exists"):
        scratch_path()


def test_everything_for_a_remote_root_lies_there(s3_root: str, temporary: Path) -> None:
    output = produce(s3_root, "data_preparation", {}, lambda folder: {"rows": (folder / "a").write_text("x")})
    assert output.uri.startswith(s3_root)
    assert [path.name for path in temporary.iterdir()] == [f"gradsift-{os.geteuid()}"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660)])
def test_files_have_the_rights_that_the_umask_gives(umask: int, mode: int, tmp_path: Path) -> None:
    previous = os.umask(umask)
    try:
        LocalStorage(tmp_path).write("written", b"x")
        LocalStorage(tmp_path).create("created", b"x")
    finally:
        os.umask(previous)
    for name in ("written", "created"):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("of somebody else")
    (tmp_path / "file").symlink_to(victim)
    LocalStorage(tmp_path).write("file", b"mine")
    assert victim.read_text() == "of somebody else"
    assert (tmp_path / "file").read_bytes() == b"mine"
