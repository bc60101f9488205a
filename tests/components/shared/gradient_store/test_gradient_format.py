"""What a shard holds comes back, in float32 and float16; a shard of another store is refused by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from synthetic_store import shard_numbers, store_header, write_store

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store.gradient_format import HalfArray, Shard
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.storage.storage import open_storage


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(str(tmp_path))
    return tmp_path


LARGEST = float(np.finfo(np.float32).max)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(0, 5)), elements=FINITE))
def test_float16_keeps_its_relative_precision(numbers: np.ndarray) -> None:
    """Numbers far below the largest lose digits, by less than 2^-39 of the largest."""
    half = HalfArray.of(numbers)
    largest = np.abs(numbers).max(initial=0)
    assert half.values.dtype == np.float16
    assert np.isfinite(half.values).all()
    assert half.numbers().dtype == np.float32
    error = np.abs(half.numbers().astype(float) - numbers)
    if largest >= np.finfo(np.float32).tiny:
        assert (error <= np.maximum(2.0**-11 * np.abs(numbers), 2.0**-39 * largest)).all()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 1e-30, 1e-8, 1.0, 65504.0, 1e30, LARGEST])
def test_gradients_of_any_size_come_back_from_float16(tmp_path: Path, size: float) -> None:
    header = store_header(dtype="float16", hidden=3)
    numbers = shard_numbers(5, header)
    for name in ("gradient", "probe", "hidden"):
        numbers[name] = (numbers[name] / np.abs(numbers[name]).max() * size).astype(np.float32)
    with GradientStoreWriter(open_storage(str(tmp_path)), header) as writer:
        writer.seal([writer.write_shard("target", "train", 0, Shard(**numbers))])
    (found,) = GradientStore(str(tmp_path)).read("target", "train")
    assert np.array_equal(found.loss, numbers["loss"])
    assert np.array_equal(found.margin, numbers["margin"])
    for name in ("gradient", "probe", "hidden"):
        array = getattr(found, name)
        assert array.dtype == np.float32
        assert np.allclose(array, numbers[name], rtol=2.0**-11, atol=2.0**-39 * size), name


def test_a_power_of_two_makes_no_difference_to_float16() -> None:
    numbers = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    values = HalfArray.of(numbers).numbers()
    for factor in (2.0**-90, 2.0**90):
        assert np.array_equal(
            HalfArray.of(numbers * np.float32(factor)).numbers(), values * np.float32(factor)
        )


def test_float16_takes_half_the_bytes(tmp_path: Path) -> None:
    write_store(str(tmp_path / "half"), dimension=600, dtype="float16")
    write_store(str(tmp_path / "full"), dimension=600)
    half, full = (
        sum(shard.bytes for shard in GradientStore(str(tmp_path / name)).shards) for name in ("half", "full")
    )
    assert half < 0.56 * full


def test_hidden_states_come_back_where_the_store_has_them(store: Path, tmp_path_factory: Any) -> None:
    assert next(GradientStore(str(store)).read("one", "train")).hidden is None
    folder = tmp_path_factory.mktemp("hidden")
    write_store(str(folder), hidden=5)
    found = next(GradientStore(str(folder)).read("one", "train"))
    assert np.array_equal(found.hidden, shard_numbers(4, store_header(hidden=5), 1)["hidden"])


@pytest.mark.parametrize("answer", ["label", "text"])
def test_the_number_of_answer_tokens_comes_back_exactly(tmp_path: Path, answer: str) -> None:
    header = store_header(dtype="float16", answer=answer)
    numbers = shard_numbers(4, header) | {"positions": np.array([1, 2, 300, 70_001], np.float32)}
    with GradientStoreWriter(open_storage(str(tmp_path)), header) as writer:
        writer.seal([writer.write_shard("target", "train", 0, Shard(**numbers))])
    (found,) = GradientStore(str(tmp_path)).read("target", "train")
    assert found.positions.tolist() == [1, 2, 300, 70_001]


def test_a_store_of_a_classifier_has_one_position_a_row(store: Path) -> None:
    assert next(GradientStore(str(store)).read("one", "train")).positions.tolist() == [1, 1, 1, 1]
    assert len({store_header(answer=answer).digest for answer in ("class", "label", "text")}) == 3


@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_the_squared_norm_of_the_step_is_finite_and_never_below_zero(number: float) -> None:
    with pytest.raises(ValueError, match="squared_step_norm"):
        store_header(squared_step_norm=number)


def test_margins_at_the_base_weights_come_back_unrounded(tmp_path: Path) -> None:
    header = store_header(dtype="float16", squared_step_norm=5.3125000001)
    numbers = shard_numbers(4, header) | {"base_margin": np.array([-1e-7, 0.1, 3.3, -250.01], np.float32)}
    with GradientStoreWriter(open_storage(str(tmp_path)), header) as writer:
        writer.seal([writer.write_shard("target", "train", 0, Shard(**numbers))])
    store = GradientStore(str(tmp_path))
    (found,) = store.read("target", "train")
    assert found.base_margin.tolist() == numbers["base_margin"].tolist()
    assert store.header.squared_step_norm == 5.3125000001


def _replace_shard(folder: Path, name: str, content: bytes) -> None:
    """Put another shard into a store, and its size and digest into the manifest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    (record,) = (record for record in manifest["shards"] if record["key"] == name)
    record.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_digest": "e" * 64}, "with other weights, data, tokenizer, projection or settings"),
        ({"squared_step_norm": 2.6}, "with other weights, data, tokenizer, projection or settings"),
        ({"projection": {"kind": "fold", "seed": 2}}, "with other weights, data, tokenizer, projection"),
        ({"blocks": 3}, "with other weights, data, tokenizer, projection or settings"),
        ({"dimension": 8}, r"gradient is float32 \[4, 8\], expected float32 \[4, 6\]"),
        ({"probes": 2}, r"probe is float32 \[4, 2, 6\], expected float32 \[4, 1, 6\]"),
        ({"dtype": "float16"}, r"gradient is float16 \[4, 6\], expected float32 \[4, 6\]"),
        ({"hidden": 5}, r"hidden is float32 \[4, 5\], expected absent"),
    ],
)
def test_a_shard_of_another_store_is_named(
    store: Path, tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], reason: str
) -> None:
    other = tmp_path_factory.mktemp("other")
    write_store(str(other), **changes)
    name = "one/train/00000.safetensors"
    _replace_shard(store, name, (other / name).read_bytes())
    expected = rf"shard {store}/{name} was made for another header(: |, ){reason}"
    with pytest.raises(GradientStoreError, match=expected):
        list(GradientStore(str(store)).read("one", "train"))


def test_a_shard_of_other_rows_than_the_manifest_says_is_named(store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["shards"][0]["rows"] = 3
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GradientStoreError, match=r"base_margin is float32 \[4\], expected float32 \[3\]"):
        list(GradientStore(str(store)).read("one", "train"))


@pytest.mark.parametrize("content", [b"", b"no shard", b"\xff" * 100, (2).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_shard_is_named(store: Path, content: bytes) -> None:
    name = "one/train/00000.safetensors"
    _replace_shard(store, name, content)
    with pytest.raises(GradientStoreError, match=f"The gradient store's shard {store}/{name} is no shard"):
        list(GradientStore(str(store)).read("one", "train"))


def test_another_header_in_the_manifest_is_noticed(store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["projection"]["seed"] = 7
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GradientStoreError, match="was made for another header, with other weights"):
        list(GradientStore(str(store)).read("one", "train"))
