"""The gradient store of cut sources: the rows of another store, put under the names of their clusters."""

from collections.abc import Iterator

import numpy as np

from gradsift.components.shared.data.prepared_data import Places, PreparedData
from gradsift.components.shared.gradient_store.gradient_format import Shard, ShardRecord, StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter, Split
from gradsift.components.shared.storage.storage import open_storage

ARRAYS = ("loss", "margin", "base_margin", "gradient", "probe", "positions")


def write_cut_store(store: GradientStore, data: PreparedData, data_digest: str, uri: str) -> GradientStore:
    """Write the store of the cut data, or what an earlier call left to write, and return it.

    Each shard is read once. Memory is that of a full shard per cluster of a source.

    Args:
        store: the store of the whole sources.
        data: the cut data.
        data_digest: its digest.
        uri: where the store goes.

    Raises:
        GradientStoreError: a shard is missing or altered, or another process writes other content.
        StorageError: the storage is out of reach.
    """
    header = StoreHeader(**{**store.header.model_dump(), "data_digest": data_digest})
    records: dict[tuple[str, Split], list[ShardRecord]] = {}
    with GradientStoreWriter(open_storage(uri), header) as writer:
        for whole in dict.fromkeys(task.whole for task in data.tasks):
            parts = {task.name: data.places(task.name, "train") for task in data.tasks if task.whole == whole}
            for task, shard in _cut_shards(store, whole, parts):
                _write(writer, records.setdefault((task, "train"), []), task, "train", shard)
        for shard in store.read(data.target, "val"):
            _write(writer, records.setdefault((data.target, "val"), []), data.target, "val", shard)
        tasks: list[tuple[str, Split]] = [(task.name, "train") for task in data.tasks]
        digest = writer.seal([each for key in [*tasks, (data.target, "val")] for each in records[key]])
    return GradientStore(uri, digest)


def _write(
    writer: GradientStoreWriter, records: list[ShardRecord], task: str, split: Split, shard: Shard
) -> None:
    index = len(records)
    records.append(writer.finished_shard(task, split, index) or writer.write_shard(task, split, index, shard))


def _cut_shards(
    store: GradientStore, whole: str, parts: dict[str, Places | None]
) -> Iterator[tuple[str, Shard]]:
    """Yield the full shards of every part of a task as its rows are read, and then what is left of each."""
    waiting: dict[str, list[Shard]] = {name: [] for name in parts}
    first = 0
    for shard in store.read(whole, "train"):
        stop = first + len(shard.example_id)
        for name, places in parts.items():
            if places is None:
                yield name, shard
                continue
            own = places[np.searchsorted(places, first) : np.searchsorted(places, stop)] - first
            joined = _joined([*waiting[name], _rows(shard, own, store.header)], store.header)
            full = store.header.shard_rows
            while len(joined.example_id) >= full:
                yield name, _rows(joined, np.arange(full), store.header)
                joined = _rows(joined, np.arange(full, len(joined.example_id)), store.header)
            waiting[name] = [joined]
        first = stop
    for name, left in waiting.items():
        for shard in left:
            if shard.example_id:
                yield name, shard


def _names(header: StoreHeader) -> tuple[str, ...]:
    return ARRAYS if header.hidden is None else (*ARRAYS, "hidden")


def _rows(shard: Shard, places: Places, header: StoreHeader) -> Shard:
    """Return those rows of a shard."""
    arrays = {name: getattr(shard, name)[places] for name in _names(header)}
    return Shard([shard.example_id[place] for place in places], **arrays)


def _joined(shards: list[Shard], header: StoreHeader) -> Shard:
    """Return the rows of all shards in one."""
    arrays = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in _names(header)}
    return Shard([each for shard in shards for each in shard.example_id], **arrays)
