"""The store of cut data has the rows of the whole one, under other names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_store import random_shard, store_header

from gradsift.components.gradient_extraction.clusters.cut_store import ARRAYS, write_cut_store
from gradsift.components.shared.data.prepared_data import (
    PreparedData,
    PreparedTask,
    write_index,
    write_places,
)
from gradsift.components.shared.gradient_store.gradient_format import StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import (
    MANIFEST,
    GradientStore,
    GradientStoreWriter,
)
from gradsift.components.shared.storage.storage import open_storage

DIGEST = "e" * 64


def whole_store(folder: Path, rows: int, header: StoreHeader) -> GradientStore:
    """Write a store of `mixed` with so many rows, `small` with three, and the target."""
    counts: dict[tuple[str, Any], int] = {("mixed", "train"): rows, ("small", "train"): 3}
    counts |= {("target", "train"): 2, ("target", "val"): 5}
    with GradientStoreWriter(open_storage(str(folder)), header) as writer:
        records = [
            writer.write_shard(task, split, index, random_shard(min(4, count - first), header, 10 * first))
            for (task, split), count in counts.items()
            for index, first in enumerate(range(0, count, 4))
        ]
        writer.seal(records)
    return GradientStore(str(folder))


def cut_data(folder: Path, labels: list[int]) -> PreparedData:
    """Write the index of data in which `mixed` is cut by these labels of its rows."""
    own = {"small": {"train": 3}, "target": {"train": 2, "val": 5}}
    tasks = []
    for number in sorted(set(labels)):
        places = np.flatnonzero(np.array(labels) == number)
        write_places(folder, f"mixed#{number:02d}", "train", places)
        rows: Any = {"train": len(places)}
        tasks.append(PreparedTask(name=f"mixed#{number:02d}", labels=["a"], rows=rows, part_of="mixed"))
    tasks += [PreparedTask(name=name, labels=["a"], rows=rows) for name, rows in own.items()]  # type: ignore[arg-type]
    write_index(folder, "suite", "target", tasks)
    return PreparedData(folder)


def rows_of(store: GradientStore, task: str, split: Any = "train") -> dict[str, Any]:
    shards = list(store.read(task, split))
    names = ARRAYS if store.header.hidden is None else (*ARRAYS, "hidden")
    arrays = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in names}
    return {"example_id": np.array([each for shard in shards for each in shard.example_id]), **arrays}


@settings(max_examples=8)
@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=23), hidden=st.booleans())
def test_every_row_is_found_under_its_cluster(
    tmp_path_factory: pytest.TempPathFactory, labels: list[int], hidden: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    header = store_header(shard_rows=4, **({"hidden": 3} if hidden else {}), answer="text")
    store = whole_store(folder / "whole", len(labels), header)
    data = cut_data(folder / "data", labels)
    cut = write_cut_store(store, data, DIGEST, str(folder / "store"))

    assert cut.header == header.model_copy(update={"data_digest": DIGEST})
    assert cut.train_rows == {task.name: task.rows["train"] for task in data.tasks}
    assert [shard.rows for shard in cut.shards] == [
        min(4, task.rows["train"] - first) for task in data.tasks for first in range(0, task.rows["train"], 4)
    ] + [4, 1]
    for task in data.tasks:
        found, whole = rows_of(cut, task.name), rows_of(store, task.whole)
        places = data.places(task.name, "train")
        for name, values in whole.items():
            np.testing.assert_array_equal(found[name], values if places is None else values[places])
    for name, values in rows_of(store, "target", "val").items():
        np.testing.assert_array_equal(rows_of(cut, "target", "val")[name], values)


def test_a_store_that_was_not_finished_is_continued_to_the_same_bytes(tmp_path: Path) -> None:
    labels = [0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0]
    store = whole_store(tmp_path / "whole", len(labels), store_header(shard_rows=4))
    data = cut_data(tmp_path / "data", labels)
    write_cut_store(store, data, DIGEST, str(tmp_path / "store"))
    files = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    (tmp_path / "store" / MANIFEST).unlink()
    (tmp_path / "store" / "mixed#01" / "train" / "00001.json").unlink()
    (tmp_path / "store" / "small" / "train" / "00000.safetensors").write_bytes(b"cut short")
    write_cut_store(store, data, DIGEST, str(tmp_path / "store"))
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == files


def test_rows_in_float16_keep_their_numbers(tmp_path: Path) -> None:
    labels = [0, 1] * 6
    store = whole_store(tmp_path / "whole", len(labels), store_header(shard_rows=4, dtype="float16"))
    cut = write_cut_store(store, cut_data(tmp_path / "data", labels), DIGEST, str(tmp_path / "store"))
    whole = rows_of(store, "mixed")["gradient"]
    np.testing.assert_array_equal(rows_of(cut, "mixed#01")["gradient"], whole[1::2])
