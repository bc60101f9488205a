"""Shards move while others are computed or used: bounded, in order, and each downloaded once."""

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from synthetic_store import random_shard, same_rows, store_header, write_store

from gradsift.components.shared.errors import GradientStoreError, StorageError
from gradsift.components.shared.gradient_store import gradient_store
from gradsift.components.shared.gradient_store.gradient_store import (
    GradientStore,
    GradientStoreWriter,
)
from gradsift.components.shared.storage.local import LocalStorage
from gradsift.components.shared.storage.scratch import scratch_path
from gradsift.components.shared.storage.storage import open_storage


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that shards of stores in S3 are downloaded to, empty at first."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return scratch_path("fetched")


@pytest.mark.parametrize("root", ["tmp_path", "s3_root", "conditional_s3_root"])
def test_two_extractions_at_a_time_agree_or_one_stops(request: pytest.FixtureRequest, root: str) -> None:
    uri = str(request.getfixturevalue(root))
    first, second = (GradientStoreWriter(open_storage(uri), store_header()) for _ in range(2))
    with first, second:
        records = [
            writer.write_shard("one", "train", 0, random_shard(4, store_header()))
            for writer in (first, second)
        ]
    assert records[0] == records[1]
    writer = GradientStoreWriter(open_storage(uri), store_header())
    writer.write_shard("one", "train", 0, random_shard(4, store_header(), 1))
    with pytest.raises(
        GradientStoreError, match=f"Another extraction wrote other content to {uri}/one/train/0"
    ):
        writer.seal([])
    assert open_storage(uri).keys() == ["one/train/00000.json", "one/train/00000.safetensors"]


class _SlowStorage(LocalStorage):
    """A folder in which files are created when the test says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.go = threading.Semaphore(0)

    def create(self, key: str, content: bytes) -> None:
        assert self.go.acquire(timeout=10)
        super().create(key, content)


def test_one_shard_is_stored_while_the_next_is_computed(tmp_path: Path) -> None:
    storage = _SlowStorage(tmp_path)
    writer = GradientStoreWriter(storage, store_header())
    writer.write_shard("one", "train", 0, random_shard(4, store_header()))
    assert storage.keys() == []
    second = threading.Thread(
        target=writer.write_shard, args=("one", "train", 1, random_shard(4, store_header()))
    )
    second.start()
    second.join(0.2)
    assert second.is_alive(), "a second upload started before the first was done"
    storage.go.release(2)
    second.join(10)
    assert storage.keys() == ["one/train/00000.json", "one/train/00000.safetensors"]
    storage.go.release(3)
    writer.seal([])
    assert len(storage.keys()) == 5


class _FullStorage(LocalStorage):
    """A folder that takes no shard."""

    def create(self, key: str, content: bytes) -> None:
        raise StorageError(f"Cannot write {key}: the disk is full.")


def test_an_upload_that_failed_is_reported_by_every_later_call(tmp_path: Path) -> None:
    writer = GradientStoreWriter(_FullStorage(tmp_path), store_header())
    writer.write_shard("one", "train", 0, random_shard(4, store_header()))
    for call in (
        lambda: writer.write_shard("one", "train", 1, random_shard(4, store_header())),
        lambda: writer.seal([]),
    ):
        with pytest.raises(StorageError, match="the disk is full"):
            call()
    with (
        pytest.raises(StorageError, match="the disk is full"),
        GradientStoreWriter(_FullStorage(tmp_path), store_header()) as writer,
    ):
        writer.write_shard("one", "train", 0, random_shard(4, store_header()))
    assert list(tmp_path.rglob("*.*")) == []


def test_no_more_shards_are_read_ahead_than_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = store_header()
    with GradientStoreWriter(open_storage(str(tmp_path)), header) as writer:
        writer.seal(
            [writer.write_shard("one", "train", index, random_shard(4, header, index)) for index in range(20)]
        )
    started: list[str] = []
    read = LocalStorage.read

    def counted(self: LocalStorage, key: str) -> bytes:
        started.append(key)
        return read(self, key)

    reader = GradientStore(str(tmp_path))
    monkeypatch.setattr(LocalStorage, "read", counted)
    shards = reader.read("one", "train")
    for index in range(20):
        assert same_rows(next(shards), random_shard(4, header, index))
        assert len(started) <= index + 1 + gradient_store.READ_AHEAD
    assert next(shards, None) is None
    assert len(started) == 20


def test_a_store_on_s3_comes_back(s3_root: str) -> None:
    digest = write_store(s3_root)
    reader = GradientStore(s3_root, digest)
    assert same_rows(next(reader.read("target", "train")), random_shard(2, store_header(), 3))


def test_shards_in_s3_are_downloaded_once(s3_root: str, cache: Path) -> None:
    digest = write_store(s3_root)
    first = [shard.gradient for shard in GradientStore(s3_root).read("one", "train")]
    copies = sorted((cache / digest[:32] / "one/train").iterdir())
    assert [path.name for path in copies] == ["00000.safetensors", "00001.safetensors"]
    storage = open_storage(s3_root)
    for name in ("00000", "00001"):
        storage.delete(f"one/train/{name}.safetensors")
    again = [shard.gradient for shard in GradientStore(s3_root).read("one", "train")]
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-1] + b"?"])
def test_a_damaged_copy_of_a_shard_in_s3_is_fetched_again(
    s3_root: str, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    digest = write_store(s3_root)
    list(GradientStore(s3_root).read("one", "train"))
    copy = cache / digest[:32] / "one/train/00000.safetensors"
    content = copy.read_bytes()
    copy.write_bytes(damage(content))
    found = next(GradientStore(s3_root).read("one", "train"))
    assert same_rows(found, random_shard(4, store_header(), 1))
    assert copy.read_bytes() == content


def test_a_shard_that_is_spoilt_on_its_way_once_is_read_again(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(s3_root)
    store = GradientStore(s3_root)
    read, spoilt = store.storage.read, list[str]()

    def spoil_the_first(key: str) -> bytes:
        content = read(key)
        if spoilt or key != "one/train/00000.safetensors":
            return content
        spoilt.append(key)
        return content[:-1]

    monkeypatch.setattr(store.storage, "read", spoil_the_first)
    found = next(store.read("one", "train"))
    assert same_rows(found, random_shard(4, store_header(), 1))
    assert spoilt == ["one/train/00000.safetensors"]


def test_a_damaged_shard_in_s3_is_named_and_not_kept(s3_root: str, cache: Path) -> None:
    write_store(s3_root)
    storage = open_storage(s3_root)
    key = "one/train/00000.safetensors"
    storage.write(key, storage.read(key)[:-1] + b"?")
    with pytest.raises(GradientStoreError, match=rf"shard {s3_root}/{key} was altered: its sha256 differs"):
        list(GradientStore(s3_root).read("one", "train"))
    storage.delete(key)
    with pytest.raises(GradientStoreError, match=rf"shard {s3_root}/{key} is missing"):
        list(GradientStore(s3_root).read("one", "train"))
    assert not list(cache.rglob("00000.safetensors"))


def test_readers_at_the_same_time_share_the_copies(s3_root: str, cache: Path) -> None:
    write_store(s3_root)
    results: list[bool] = []

    def read() -> None:
        first, second = GradientStore(s3_root).read("one", "train")
        results.append(
            same_rows(first, random_shard(4, store_header(), 1))
            and same_rows(second, random_shard(3, store_header(), 2))
        )

    for _ in range(3):
        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shutil.rmtree(cache)
    assert results == [True] * 18
