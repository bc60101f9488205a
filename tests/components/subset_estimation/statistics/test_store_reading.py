"""The sums read from a store are those of its rows; a store that cannot be used is refused by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.subset_estimation.statistics import store_reading, threads
from gradsift.components.subset_estimation.statistics.store_reading import read_statistics, read_train_rows


def test_sums_over_shards_are_sums_over_rows(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem(blocks=2)
    found = read_statistics(GradientStore(problem.write(tmp_path).uri))
    expected = problem.statistics()
    assert (found.target, found.tasks, found.blocks) == ("target", tuple(problem.tasks), 2)
    assert found.squared_step_norm == expected.squared_step_norm == 8
    names = (
        "rows",
        "gradient",
        "curvature",
        "validation_margin",
        "validation_base_margins",
        "validation_gradient",
    )
    for name in names:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5)


def test_train_rows_come_in_the_order_of_the_sums(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    found = read_train_rows(GradientStore(problem.write(tmp_path).uri))
    expected = problem.train_rows()
    np.testing.assert_array_equal(found.starts, expected.starts)
    np.testing.assert_allclose(found.offset, expected.offset, rtol=1e-6)
    np.testing.assert_array_equal(found.base_margins, expected.base_margins.astype(np.float32))
    np.testing.assert_allclose(found.feature, expected.feature, rtol=1e-5)
    assert found.feature.dtype == np.float32


@pytest.mark.parametrize("name", ["loss", "margin", "gradient", "probe"])
def test_a_number_that_is_not_finite_is_refused(synthetic: Any, tmp_path: Path, name: str) -> None:
    store = _store_with(synthetic.problem(), tmp_path, "task1/train/00000", {name: np.nan})
    with pytest.raises(GradientStoreError, match=rf"Task 'task1', train split .*{name} is not finite"):
        read_statistics(store)


def test_base_margins_that_are_not_finite_are_refused(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    for place, split, read in (
        ("task1/train", "train", read_train_rows),
        ("target/val", "val", read_statistics),
    ):
        store = _store_with(problem, tmp_path / split, f"{place}/00000", {"base_margin": np.inf})
        with pytest.raises(GradientStoreError, match=rf"{split} split .* base_margin is not finite in row '"):
            read(store)


def test_numbers_whose_squares_overflow_are_refused(synthetic: Any, tmp_path: Path) -> None:
    store = _store_with(synthetic.problem(), tmp_path, "task1/train/00000", {"probe": 1e30})
    with pytest.raises(GradientStoreError, match=r"'task1' .* squares are above the largest float32"):
        read_statistics(store)


def test_validation_rows_that_text_answers_are_read_with_their_probes(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    store = GradientStore(problem.write(tmp_path, answer="text", tokens=2).uri)
    found = read_statistics(store).validation_rows
    assert found is not None
    np.testing.assert_allclose(found.loss, np.logaddexp(0, -problem.validation.margin) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.probe, problem.validation.probe / np.sqrt(2), rtol=1e-6)


def test_a_label_decides_a_validation_row_whatever_its_tokens(synthetic: Any, tmp_path: Path) -> None:
    store = GradientStore(synthetic.problem().write(tmp_path, answer="label", tokens=3).uri)
    found = read_statistics(store)
    assert found.validation_rows is None
    assert (found.validation_positions == 3).all()


@pytest.mark.parametrize(("answer", "tokens"), [("class", 1), ("label", 3)])
def test_validation_losses_that_are_not_those_of_their_margins_are_refused(
    synthetic: Any, tmp_path: Path, answer: str, tokens: int
) -> None:
    store = _store_with(
        synthetic.problem(), tmp_path, "target/val/00000", {"loss": 9.0}, answer=answer, tokens=tokens
    )
    with pytest.raises(GradientStoreError, match=r"Task 'target', val split .* not those of its margins"):
        read_statistics(store)


def test_train_losses_that_are_not_those_of_their_margins_are_refused(synthetic: Any, tmp_path: Path) -> None:
    store = _store_with(synthetic.problem(), tmp_path, "task1/train/00000", {"loss": 9.0})
    with pytest.raises(GradientStoreError, match=r"Task 'task1', train split .* not those of its margins"):
        read_train_rows(store)


@pytest.mark.parametrize("answer", ["label", "text"])
def test_train_rows_of_several_answer_tokens_have_no_margins(
    synthetic: Any, tmp_path: Path, answer: str
) -> None:
    store = GradientStore(synthetic.problem().write(tmp_path, answer=answer, tokens=2).uri)
    with pytest.raises(GradientStoreError, match=r"several tokens .* expected the estimator 'gauss_newton'"):
        read_train_rows(store)


def test_sums_are_the_same_bits_for_any_number_of_threads(
    synthetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GradientStore(synthetic.problem(tasks=6, dimension=40).write(tmp_path).uri)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(threads, "cores_per_process", lambda cores=cores: cores)
        found.append(read_statistics(store))
    for name in ("gradient", "curvature"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def test_outer_products_are_summed_over_all_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(2 * store_reading.ROW_BATCH + 3, 5)).astype(np.float32)
    exact = rows.astype(np.float64).T @ rows.astype(np.float64)
    np.testing.assert_allclose(store_reading.outer_products(rows), exact, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        (("target", "train"), "Task 'target' has no train rows"),
        (("target", "val"), "target task 'target' has no val rows"),
    ],
)
def test_a_split_without_rows_is_refused(
    synthetic: Any, tmp_path: Path, dropped: tuple[str, str], message: str
) -> None:
    def without(manifest: dict[str, Any]) -> None:
        manifest["shards"] = [s for s in manifest["shards"] if (s["task"], s["split"]) != dropped]

    store = _changed_manifest(synthetic.problem(), tmp_path, without)
    with pytest.raises(GradientStoreError, match=message):
        read_statistics(store)


def test_a_task_with_validation_rows_alone_is_refused(synthetic: Any, tmp_path: Path) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        for shard in manifest["shards"]:
            if shard["task"] == "task1":
                shard.update(split="val", key=shard["key"].replace("train", "val"))

    with pytest.raises(GradientStoreError, match="Task 'task1' has no train rows"):
        read_statistics(_changed_manifest(synthetic.problem(), tmp_path, rename))


def test_a_store_of_the_target_alone_is_refused(synthetic: Any, tmp_path: Path) -> None:
    store = GradientStore(synthetic.problem(tasks=0).write(tmp_path).uri)
    with pytest.raises(GradientStoreError, match="holds the target 'target' alone"):
        read_statistics(store)


@pytest.mark.parametrize(("field", "value"), [("blocks", 3), ("blocks", 0), ("probes", 0)])
def test_unequal_blocks_or_no_probe_are_refused(
    synthetic: Any, tmp_path: Path, field: str, value: int
) -> None:
    store = _changed_manifest(synthetic.problem(), tmp_path, lambda manifest: manifest.update({field: value}))
    with pytest.raises(GradientStoreError, match="expected equal blocks and at least one probe"):
        read_statistics(store)


def _changed_manifest(problem: Any, folder: Path, change: Any) -> GradientStore:
    problem.write(folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return GradientStore(str(folder))


def _store_with(
    problem: Any, folder: Path, shard: str, first_row: dict[str, float], **written: Any
) -> GradientStore:
    """Return a store in which the first row of a shard was something else from the start."""
    problem.write(folder, **written)
    path = folder / f"{shard}.safetensors"
    arrays = {name: array.copy() for name, array in load(path.read_bytes()).items()}
    for name, value in first_row.items():
        arrays[name][0] = value
    path.write_bytes(save(arrays))
    _seal_again(folder, shard, path.read_bytes())
    return GradientStore(str(folder))


def _seal_again(folder: Path, shard: str, content: bytes) -> None:
    sidecar, manifest = folder / f"{shard}.json", folder / "manifest.json"
    known, listed = json.loads(sidecar.read_text()), json.loads(manifest.read_text())
    known["shard"]["sha256"] = hashlib.sha256(content).hexdigest()
    listed["shards"] = [known["shard"] if s["key"] == known["shard"]["key"] else s for s in listed["shards"]]
    sidecar.write_text(json.dumps(known))
    manifest.write_text(json.dumps(listed))
