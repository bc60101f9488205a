"""What is written to a gradient store comes back; anything unfinished, damaged or foreign is refused by name."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from synthetic_store import random_shard, same_rows, shard_numbers, store_header, write_store

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store.gradient_format import Shard, ShardRecord, StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.storage.storage import open_storage

ARRAYS = ("loss", "margin", "base_margin", "gradient", "probe")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(str(tmp_path))
    return tmp_path


def test_rows_come_back_in_order(store: Path) -> None:
    reader = GradientStore(str(store))
    assert reader.header == store_header()
    assert reader.train_rows == {"one": 7, "target": 2}
    first, second = reader.read("one", "train")
    assert same_rows(first, random_shard(4, store_header(), 1))
    assert same_rows(second, random_shard(3, store_header(), 2))
    assert [len(shard.loss) for shard in reader.read("target", "val")] == [4]
    assert list(reader.read("one", "val")) == []


@given(
    rows=st.integers(0, 5),
    dimension=st.integers(1, 7),
    probes=st.integers(0, 3),
    data=st.data(),
)
def test_any_finite_numbers_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: int, dimension: int, probes: int, data: st.DataObject
) -> None:
    header = store_header(dimension=dimension, probes=probes)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    numbers = {
        name: data.draw(arrays.arrays(np.float32, shape, elements=finite))
        for name, shape in header.shapes(rows).items()
    }
    shard = Shard(example_id=data.draw(st.lists(st.text(), min_size=rows, max_size=rows)), **numbers)
    uri = str(tmp_path_factory.mktemp("store"))
    writer = GradientStoreWriter(open_storage(uri), header)
    digest = writer.seal([writer.write_shard("target", "train", 0, shard)])
    (found,) = GradientStore(uri, digest).read("target", "train")
    assert same_rows(found, shard)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    assert write_store(str(tmp_path / "one")) == write_store(str(tmp_path / "two"))


def test_a_store_without_manifest_is_unfinished(store: Path) -> None:
    (store / "manifest.json").unlink()
    with pytest.raises(GradientStoreError, match=r"is unfinished: it has no manifest\.json"):
        GradientStore(str(store))


def test_another_manifest_than_the_extraction_wrote_is_refused(store: Path) -> None:
    digest = hashlib.sha256((store / "manifest.json").read_bytes()).hexdigest()
    assert GradientStore(str(store), digest).digest == digest
    with pytest.raises(GradientStoreError, match=r"manifest\.json was altered after the extraction"):
        GradientStore(str(store), "0" * 64)


@pytest.mark.parametrize(
    "content", ["", "[]", "7", "{}", '{"format": 2}', "\udc80", '{"format": 2, "shards": [1]}']
)
def test_a_file_that_is_no_manifest_is_refused(store: Path, content: str) -> None:
    (store / "manifest.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(GradientStoreError, match=r"manifest\.json "):
        GradientStore(str(store))


def test_shards_that_are_no_records_are_refused(store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    for shards in (5, [5], [{"key": "one"}], None):
        (store / "manifest.json").write_text(json.dumps(manifest | {"shards": shards}))
        with pytest.raises(GradientStoreError, match="is not a gradient store's manifest"):
            GradientStore(str(store))


def test_a_field_that_is_not_the_headers_is_refused(store: Path) -> None:
    content = (store / "manifest.json").read_text()
    (store / "manifest.json").write_text(content.replace('"hidden"', '"hiddem"'))
    with pytest.raises(GradientStoreError, match="is not a gradient store's manifest"):
        GradientStore(str(store))


@pytest.mark.parametrize("found", [1, 3])
def test_another_format_is_refused(store: Path, found: int) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {"format": found}))
    message = (
        rf"^{store}/manifest\.json has format {found}: expected format 2, which this version of gradsift writes; "
        r"run the extraction again\.$"
    )
    with pytest.raises(GradientStoreError, match=message):
        GradientStore(str(store))


def test_a_missing_shard_is_named(store: Path) -> None:
    (store / "one/train/00001.safetensors").unlink()
    with pytest.raises(GradientStoreError, match=r"one/train/00001\.safetensors is missing"):
        list(GradientStore(str(store)).read("one", "train"))


def test_a_truncated_shard_is_named(store: Path) -> None:
    path = store / "one/train/00000.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(GradientStoreError, match=r"00000\.safetensors has \d+ bytes, expected \d+"):
        list(GradientStore(str(store)).read("one", "train"))


def test_one_flipped_bit_is_noticed(store: Path) -> None:
    path = store / "target/val/00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(GradientStoreError, match=r"val/00000\.safetensors was altered: its sha256 differs"):
        list(GradientStore(str(store)).read("target", "val"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shards: shards.append(shards[0]), "lists the shard 'one/train/00000.safetensors': expected"),
        (
            lambda shards: shards.pop(0),
            "lists the shard 'one/train/00001.safetensors': expected 'one/train/00000",
        ),
        (lambda shards: shards[1].update(key=shards[0]["key"]), "expected 'one/train/00001.safetensors'"),
        (lambda shards: shards[0].update(key="/etc/passwd"), "lists the shard '/etc/passwd': expected"),
        (
            lambda shards: shards[0].update(task="../one", key="../one/train/00000.safetensors"),
            "lists a shard outside the store",
        ),
        (lambda shards: shards[0].update(rows=-1), "is not a gradient store's manifest"),
    ],
)
def test_keys_in_a_manifest_that_are_unsafe_or_doubled_are_refused(
    store: Path, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    change(manifest["shards"])
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GradientStoreError, match=message) as caught:
        GradientStore(str(store))
    assert f"{store}/manifest.json" in str(caught.value)


def test_a_store_of_another_projection_is_refused(store: Path) -> None:
    reader = GradientStore(str(store))
    reader.check_origin(projection={"kind": "fold", "seed": 1}, dimension=6)
    with pytest.raises(GradientStoreError, match=r"made for another projection: .*'seed': 1.*'seed': 2"):
        reader.check_origin(projection={"kind": "fold", "seed": 2})


@pytest.mark.parametrize("field", ["model_digest", "data_digest", "tokenizer_digest", "base_model_digest"])
def test_a_store_of_other_weights_or_data_is_refused(store: Path, field: str) -> None:
    reader = GradientStore(str(store))
    reader.check_origin(**{field: getattr(store_header(), field)})
    what = field.removesuffix("_digest").replace("_", " ")
    with pytest.raises(GradientStoreError, match=f"was made for another {what}: its {field} is"):
        reader.check_origin(**{field: "e" * 64})


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path, name: str, value: float) -> None:
    numbers = shard_numbers(3, store_header())
    numbers[name][1] = value
    writer = GradientStoreWriter(open_storage(str(tmp_path)), store_header())
    with pytest.raises(
        GradientStoreError, match=rf"Task 'one', val split: {name} of row 'row 1' is not finite"
    ):
        writer.write_shard("one", "val", 0, Shard(**numbers))
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.parametrize("name", ARRAYS)
def test_another_shape_than_the_headers_is_not_written(tmp_path: Path, name: str) -> None:
    numbers = shard_numbers(3, store_header())
    short = Shard(**numbers | {name: numbers[name][..., :-1]})
    writer = GradientStoreWriter(open_storage(str(tmp_path)), store_header())
    with pytest.raises(GradientStoreError, match=rf"{name} has shape .*, expected"):
        writer.write_shard("one", "train", 0, short)


def _resumed(folder: Path, header: StoreHeader | None = None) -> ShardRecord | None:
    writer = GradientStoreWriter(open_storage(str(folder)), header or store_header())
    return writer.finished_shard("one", "train", 0)


def test_a_whole_shard_is_resumed_with_its_record(store: Path) -> None:
    (store / "manifest.json").unlink()
    assert _resumed(store) == ShardRecord(
        key="one/train/00000.safetensors",
        task="one",
        split="train",
        rows=4,
        bytes=(store / "one/train/00000.safetensors").stat().st_size,
        sha256=hashlib.sha256((store / "one/train/00000.safetensors").read_bytes()).hexdigest(),
    )


@pytest.mark.parametrize("name", ["00000.safetensors", "00000.json"])
@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])]
)
def test_a_shard_that_is_not_whole_is_computed_again(store: Path, name: str, damage: Any) -> None:
    damage(store / "one/train" / name)
    assert _resumed(store) is None


def test_a_copy_of_another_shard_is_computed_again(store: Path) -> None:
    for ending in ("safetensors", "json"):
        shutil.copy(store / f"one/train/00001.{ending}", store / f"one/train/00000.{ending}")
    assert _resumed(store) is None


def test_a_shard_of_another_extraction_is_computed_again(store: Path) -> None:
    assert _resumed(store, store_header(model_digest="e" * 64)) is None


@pytest.mark.parametrize("name", ["00000.safetensors", "00000.json"])
@pytest.mark.parametrize("content", [b"", b"other"])
def test_what_a_killed_or_other_writer_left_is_deleted_and_written(
    store: Path, name: str, content: bytes
) -> None:
    (store / "manifest.json").unlink()
    before = (store / "one/train/00000.safetensors").read_bytes()
    (store / "one/train" / name).write_bytes(content)
    with GradientStoreWriter(open_storage(str(store)), store_header()) as writer:
        assert writer.finished_shard("one", "train", 0) is None
        writer.write_shard("one", "train", 0, random_shard(4, store_header(), 1))
    assert (store / "one/train/00000.safetensors").read_bytes() == before
    assert _resumed(store) is not None


def test_a_finished_store_that_lost_a_shard_is_sealed_again(store: Path) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*.*")}
    (store / "one/train/00001.safetensors").unlink()
    with GradientStoreWriter(open_storage(str(store)), store_header()) as writer:
        records = [
            writer.finished_shard("one", "train", 0),
            writer.finished_shard("one", "train", 1)
            or writer.write_shard("one", "train", 1, random_shard(3, store_header(), 2)),
            writer.finished_shard("target", "train", 0),
            writer.finished_shard("target", "val", 0),
        ]
        writer.seal([record for record in records if record is not None])
    assert {path: path.read_bytes() for path in store.rglob("*.*")} == before


def test_a_sealed_manifest_is_not_replaced(store: Path) -> None:
    before = (store / "manifest.json").read_bytes()
    writer = GradientStoreWriter(open_storage(str(store)), store_header())
    with pytest.raises(
        GradientStoreError, match=rf"Another extraction wrote other content to {store}/manifest"
    ):
        writer.seal([])
    assert (store / "manifest.json").read_bytes() == before
