"""What is the local disk's own: whole files or none, and what is no file is neither read nor written."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gradsift.components.shared.errors import StorageError
from gradsift.components.shared.storage.local import LocalStorage, atomic_file, open_to_append


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_file(path) as temporary:
        temporary.write_text("ne\ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("file", b"old")
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("ne")
        assert storage.read("file") == b"old"
        assert storage.keys() == ["file"]
        temporary.write_text("new")
    assert storage.read("file") == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_reader_keeps_the_old_file_that_it_has_open(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("file", b"old content")
    with (tmp_path / "file").open("rb") as reader:
        storage.write("file", b"new")
        assert reader.read() == b"old content"


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with (
        pytest.raises(StorageError, match=rf"^Cannot write {path}: it is no regular file\.$"),
        atomic_file(path),
    ):
        pytest.fail("nothing is to be written")
    assert path.is_fifo()


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(StorageError) as caught, atomic_file(path):
        Path("/dev/full").write_bytes(b"x")
    assert str(caught.value) == f"Cannot write {path}: the disk is full."
    assert list(tmp_path.iterdir()) == []


def test_a_write_cut_short_by_the_system_keeps_the_old_file(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from gradsift.components.shared.storage.local import LocalStorage
        storage = LocalStorage(Path(sys.argv[1]))
        storage.write("file", b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        storage.write("file", b"new" * 1000)
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False
    )
    assert f"StorageError: Cannot write {tmp_path}/file: file too large." in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_is_in_the_way_of_a_local_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    storage = LocalStorage(tmp_path)
    with pytest.raises(
        StorageError, match=f"Cannot write {tmp_path}/file/below: (not a directory|file exists)"
    ):
        storage.write("file/below", b"x")
    with pytest.raises(StorageError, match=f"Cannot write {tmp_path}/folder: is a directory"):
        storage.write("folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_that_the_system_refuses_is_reported(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for action in (storage.read, storage.exists):
        with pytest.raises(StorageError, match="file name too long"):
            action("a" * 300)


def test_what_is_no_regular_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    storage = LocalStorage(tmp_path)
    for name in ("fifo", "zero"):
        with pytest.raises(StorageError, match=f"^Cannot read {tmp_path}/{name}: it is no regular file"):
            storage.read(name)
    with pytest.raises(StorageError, match=f"^Cannot write {tmp_path}/fifo: no such device or address"):
        open_to_append(tmp_path / "fifo")


def test_a_file_is_appended_to_in_a_folder_that_is_made(tmp_path: Path) -> None:
    for _ in range(2):
        with open_to_append(tmp_path / "folder" / "file") as file:
            file.write(b"x")
    assert (tmp_path / "folder" / "file").read_bytes() == b"xx"


@pytest.mark.parametrize("goal", [".", "/", "a/" * 1500 + "a"])
def test_a_path_that_can_be_no_file_is_refused(
    goal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"^Cannot write "), atomic_file(Path(goal)):
        pass


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    program = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from gradsift.components.shared.storage.local import LocalStorage
        root = Path(sys.argv[1])
        (root / "closed").chmod(0)
        if os.geteuid() == 0:
            root.chmod(0o755)
            os.chdir(root)
            os.seteuid(65534)
            root = Path(".")
        assert LocalStorage(root).keys("open/") == []
        LocalStorage(root).keys()
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False
    )
    (tmp_path / "closed").chmod(0o755)
    assert "StorageError: Cannot list" in result.stderr
    assert "closed: permission denied." in result.stderr
