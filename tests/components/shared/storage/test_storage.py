"""What a storage promises, on the local disk and on a real S3 server alike."""

import os
from pathlib import Path

import pytest

from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.storage.storage import Storage, open_storage

TRAVERSALS = [
    "",
    "/etc/passwd",
    "../secret",
    "a/../../secret",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "a\\..\\b",
    "a\0b",
]


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "root")
    address: str = request.getfixturevalue("s3_root")
    return address


@pytest.fixture
def storage(root: str) -> Storage:
    return open_storage(root)


def test_what_is_written_is_read_again(storage: Storage) -> None:
    storage.write("folder/file.bin", b"\x00\xff content")
    assert storage.read("folder/file.bin") == b"\x00\xff content"
    assert storage.exists("folder/file.bin")


def test_an_empty_file_is_a_file(storage: Storage) -> None:
    storage.write("empty", b"")
    assert storage.exists("empty")
    assert storage.read("empty") == b""


def test_a_key_keeps_its_letters(storage: Storage) -> None:
    key = "task-1/ä b+c%20=&.json"
    storage.write(key, b"x")
    assert storage.keys() == [key]
    assert storage.read(key) == b"x"


def test_write_replaces_the_whole_file(storage: Storage) -> None:
    storage.write("file", b"a long first content")
    storage.write("file", b"short")
    assert storage.read("file") == b"short"
    assert storage.keys() == ["file"]


def test_keys_are_sorted_and_chosen_by_prefix(storage: Storage) -> None:
    for key in ("b/2", "b/10", "a", "bc/1"):
        storage.write(key, b"x")
    assert storage.keys() == ["a", "b/10", "b/2", "bc/1"]
    assert storage.keys("b/") == ["b/10", "b/2"]
    assert storage.keys("b") == ["b/10", "b/2", "bc/1"]
    assert storage.keys("none") == []


def test_nothing_written_means_no_keys(storage: Storage) -> None:
    assert storage.keys() == []
    assert not storage.exists("file")


def test_a_folder_is_not_a_file(storage: Storage) -> None:
    storage.write("folder/file", b"x")
    assert not storage.exists("folder")


def test_keys_of_a_neighbour_with_the_same_beginning_are_not_seen(root: str) -> None:
    open_storage(root + "-more").write("other", b"x")
    open_storage(root).write("mine", b"x")
    assert open_storage(root).keys() == ["mine"]


def test_upload_and_download_copy_files(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 100_000)
    storage.upload(tmp_path / "source", "a/copy")
    storage.download("a/copy", tmp_path / "new folder" / "target")
    assert storage.read("a/copy") == b"x" * 100_000
    assert (tmp_path / "new folder" / "target").read_bytes() == b"x" * 100_000
    assert os.listdir(tmp_path / "new folder") == ["target"]  # noqa: PTH208


@pytest.mark.parametrize("key", TRAVERSALS)
def test_no_key_leaves_the_root(storage: Storage, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_text("secret")
    local = tmp_path / "file"
    local.write_text("x")
    for action in (
        lambda: storage.read(key),
        lambda: storage.write(key, b"x"),
        lambda: storage.create(key, b"x"),
        lambda: storage.delete(key),
        lambda: storage.exists(key),
        lambda: storage.upload(local, key),
        lambda: storage.download(key, local),
    ):
        with pytest.raises(InputError, match="expected a relative path without"):
            action()
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_missing_file_is_named(storage: Storage, root: str, tmp_path: Path) -> None:
    expected = f"Cannot read {root}/a/missing: it does not exist."
    with pytest.raises(StorageError) as caught:
        storage.read("a/missing")
    assert str(caught.value) == expected
    with pytest.raises(StorageError) as caught:
        storage.download("a/missing", tmp_path / "target")
    assert str(caught.value) == expected
    assert not (tmp_path / "target").exists()


def test_a_missing_source_is_named(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        storage.upload(tmp_path / "missing", "key")
    assert str(caught.value) == f"Cannot read {tmp_path / 'missing'}: it does not exist."
    assert not storage.exists("key")


def test_a_download_that_fails_keeps_the_old_file(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(StorageError):
        storage.download("missing", target)
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert target.read_text() == "old"
