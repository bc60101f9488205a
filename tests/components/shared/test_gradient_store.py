"""What is written to a gradient store comes back; anything unfinished, damaged or foreign is refused by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store import (
    GradientStore,
    GradientStoreWriter,
    Shard,
    ShardRecord,
    StoreHeader,
)
from gradsift.components.shared.storage import open_storage

ARRAYS = ("loss", "margin", "gradient", "probe")


def _header(**changes: Any) -> StoreHeader:
    fields = {
        "dimension": 6,
        "blocks": 2,
        "probes": 1,
        "projection": {"kind": "fold", "seed": 1},
        "parameters": ["layer.weight"],
        "base_model_digest": "a" * 64,
        "model_digest": "b" * 64,
        "tokenizer_digest": "c" * 64,
        "data_digest": "d" * 64,
        "target": "target",
        "shard_rows": 4,
        "versions": {"numpy": "2"},
    }
    return StoreHeader.model_validate(fields | changes)


def _shard(rows: int, header: StoreHeader, seed: int = 0) -> Shard:
    generator = np.random.default_rng(seed)
    shapes = [(rows,), (rows,), (rows, header.dimension), (rows, header.probes, header.dimension)]
    numbers = (generator.normal(size=shape).astype(np.float32) for shape in shapes)
    return Shard(
        example_id=[f"row {index}" for index in range(rows)], **dict(zip(ARRAYS, numbers, strict=True))
    )


def _write(uri: str) -> str:
    """Write two tasks, one of two shards, and return the manifest's digest."""
    writer = GradientStoreWriter(open_storage(uri), _header())
    return writer.seal(
        [
            writer.write_shard("one", "train", 0, _shard(4, _header(), 1)),
            writer.write_shard("one", "train", 1, _shard(3, _header(), 2)),
            writer.write_shard("target", "train", 0, _shard(2, _header(), 3)),
            writer.write_shard("target", "val", 0, _shard(4, _header(), 4)),
        ]
    )


def _same(found: Shard, expected: Shard) -> bool:
    equal = [np.array_equal(getattr(found, name), getattr(expected, name)) for name in ARRAYS]
    return found.example_id == expected.example_id and all(equal)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    _write(str(tmp_path))
    return tmp_path


def test_rows_come_back_in_order(store: Path) -> None:
    reader = GradientStore(str(store))
    assert reader.header == _header()
    assert reader.train_rows == {"one": 7, "target": 2}
    first, second = reader.read("one", "train")
    assert _same(first, _shard(4, _header(), 1))
    assert _same(second, _shard(3, _header(), 2))
    assert [len(shard.loss) for shard in reader.read("target", "val")] == [4]
    assert list(reader.read("one", "val")) == []


def test_a_store_on_s3_comes_back(s3_root: str) -> None:
    digest = _write(s3_root)
    reader = GradientStore(s3_root, digest)
    assert _same(next(reader.read("target", "train")), _shard(2, _header(), 3))


@given(
    rows=st.integers(0, 5),
    dimension=st.integers(1, 7),
    probes=st.integers(0, 3),
    data=st.data(),
)
def test_any_finite_numbers_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: int, dimension: int, probes: int, data: st.DataObject
) -> None:
    header = _header(dimension=dimension, probes=probes)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    shapes = [(rows,), (rows,), (rows, dimension), (rows, probes, dimension)]
    numbers = [data.draw(arrays.arrays(np.float32, shape, elements=finite)) for shape in shapes]
    shard = Shard(
        example_id=data.draw(st.lists(st.text(), min_size=rows, max_size=rows)),
        **dict(zip(ARRAYS, numbers, strict=True)),
    )
    uri = str(tmp_path_factory.mktemp("store"))
    writer = GradientStoreWriter(open_storage(uri), header)
    digest = writer.seal([writer.write_shard("target", "train", 0, shard)])
    (found,) = GradientStore(uri, digest).read("target", "train")
    assert _same(found, shard)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    assert _write(str(tmp_path / "one")) == _write(str(tmp_path / "two"))


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
    "content", ["", "[]", "7", "{}", '{"format": 1}', "\udc80", '{"format": 1, "shards": [1]}']
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


def test_another_format_is_refused(store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(GradientStoreError, match="has format 2: this version reads format 1"):
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
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text(path.read_text()[:-3]), "is damaged"),
        (lambda path: path.write_text("{}"), "is damaged"),
        (lambda path: path.write_bytes(path.with_stem("00001").read_bytes()), "belongs to another shard"),
        (lambda path: path.write_text(path.read_text().replace('"row 0",', "")), "belongs to another shard"),
    ],
)
def test_a_sidecar_that_is_not_the_shards_is_named(store: Path, damage: Any, message: str) -> None:
    damage(store / "one/train/00000.json")
    with pytest.raises(GradientStoreError, match=rf"one/train/00000\.json {message}"):
        list(GradientStore(str(store)).read("one", "train"))


@pytest.mark.parametrize("field", ["model_digest", "data_digest", "tokenizer_digest", "base_model_digest"])
def test_a_store_of_other_weights_or_data_is_refused(store: Path, field: str) -> None:
    reader = GradientStore(str(store))
    reader.check_origin(**{field: getattr(_header(), field)})
    what = field.removesuffix("_digest").replace("_", " ")
    with pytest.raises(GradientStoreError, match=f"was made for another {what}: its {field} is"):
        reader.check_origin(**{field: "e" * 64})


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path, name: str, value: float) -> None:
    shard = _shard(3, _header())
    numbers = {array: getattr(shard, array).copy() for array in ARRAYS}
    numbers[name][1] = value
    writer = GradientStoreWriter(open_storage(str(tmp_path)), _header())
    with pytest.raises(
        GradientStoreError, match=rf"Task 'one', val split: {name} of row 'row 1' is not finite"
    ):
        writer.write_shard("one", "val", 0, shard.model_copy(update=numbers))
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.parametrize("name", ARRAYS)
def test_another_shape_than_the_headers_is_not_written(tmp_path: Path, name: str) -> None:
    shard = _shard(3, _header())
    short = shard.model_copy(update={name: getattr(shard, name)[..., :-1]})
    writer = GradientStoreWriter(open_storage(str(tmp_path)), _header())
    with pytest.raises(GradientStoreError, match=rf"{name} has shape .*, expected"):
        writer.write_shard("one", "train", 0, short)


def _resumed(folder: Path, header: StoreHeader | None = None) -> ShardRecord | None:
    writer = GradientStoreWriter(open_storage(str(folder)), header or _header())
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


def test_a_shard_of_another_extraction_is_computed_again(store: Path) -> None:
    assert _resumed(store, _header(model_digest="e" * 64)) is None
