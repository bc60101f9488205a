"""What a run starts from is read as it was stored, for classes, labels and free text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.subset_estimation.statistics import start_reading
from gradsift.components.subset_estimation.statistics.run_start import RunStart
from gradsift.components.subset_estimation.statistics.start_reading import (
    Blend,
    read_run_start,
    sample_sizes,
)
from gradsift.components.subset_estimation.statistics.store_reading import read_statistics


def _read(problem: Any, folder: Path, start: Any = "base", **written: Any) -> RunStart:
    store = GradientStore(problem.write(folder, **written).uri)
    return read_run_start(store, read_statistics(store), start)


def test_a_small_store_gives_every_row_as_the_problem_has_it(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem(rows=20, blocks=2)
    found, expected = _read(problem, tmp_path), problem.start()
    for name in ("margin", "base_margin", "meta_margin", "feature", "positions"):
        stored, true = getattr(found.rows, name), getattr(expected.rows, name)
        np.testing.assert_allclose(stored, true, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.rows.starts, expected.rows.starts)
    for name in ("gradient", "curvature", "validation_margin", "validation_feature"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-4)


def test_runs_from_theta_star_start_at_its_margins(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    found = _read(problem, tmp_path, "meta")
    np.testing.assert_array_equal(found.rows.margin, found.rows.meta_margin)
    np.testing.assert_allclose(found.validation_margin, problem.validation.margin, rtol=1e-5)
    wrong = expit(-problem.target.margin)[:, None]
    mean = -(wrong * problem.target.feature).mean(axis=0)
    np.testing.assert_allclose(found.gradient[-1, :-1], mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("answer", "tokens"), [("class", 1), ("label", 3)])
def test_a_blend_takes_a_share_of_the_gradients_at_the_base_weights(
    synthetic: Any, tmp_path: Path, answer: Any, tokens: int
) -> None:
    problem = synthetic.problem(rows=20)
    base_problem = problem.at_base()
    store = GradientStore(problem.write(tmp_path / "meta", answer, tokens).uri)
    base = GradientStore(base_problem.write(tmp_path / "base", answer, tokens, base=True).uri)
    statistics = read_statistics(store)
    alone = read_run_start(store, statistics, "base")
    blended, all_theta = (
        read_run_start(store, statistics, "base", Blend(base, each)) for each in (0.75, 1.0)
    )
    assert (alone.alpha, blended.alpha) == (1.0, 0.75)
    features = np.concatenate(
        [
            0.25 * before.feature + 0.75 * after.feature
            for before, after in zip(base_problem.train, problem.train, strict=True)
        ]
    )
    np.testing.assert_allclose(blended.rows.feature[:, :-1], features, rtol=1e-4, atol=1e-5)
    validation = 0.25 * base_problem.validation.feature + 0.75 * problem.validation.feature
    np.testing.assert_allclose(blended.validation_feature[:, :-1], validation, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(blended.rows.feature[:, -1], alone.rows.feature[:, -1])
    np.testing.assert_array_equal(blended.rows.margin, alone.rows.margin)
    wrong = expit(-blended.rows.margin)[:, None] / tokens
    target = slice(blended.rows.starts[-2], None)
    mean = -(wrong * blended.rows.feature)[target].mean(axis=0)
    np.testing.assert_allclose(blended.gradient[-1], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(all_theta.rows.feature, alone.rows.feature, rtol=1e-6)


def test_stores_that_do_not_belong_together_are_not_blended(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    store = GradientStore(problem.write(tmp_path / "meta").uri)
    other = GradientStore(problem.write(tmp_path / "other").uri)
    with pytest.raises(GradientStoreError, match="cannot be blended: expected gradients of the same rows"):
        read_run_start(store, read_statistics(store), "base", Blend(other, 0.5))


def test_of_many_rows_each_task_keeps_a_sample_and_its_whole_sums(
    synthetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = synthetic.problem(rows=40)
    whole = _read(problem, tmp_path / "whole")
    monkeypatch.setattr(start_reading, "SAMPLED_ROWS", 60)
    monkeypatch.setattr(start_reading, "TARGET_ROWS", 20)
    some = _read(problem, tmp_path / "some")
    assert np.diff(some.rows.starts).tolist() == [10, 10, 10, 10, 20]
    known = {row.tobytes() for row in whole.rows.feature}
    assert all(row.tobytes() in known for row in some.rows.feature)
    np.testing.assert_allclose(some.gradient, whole.gradient)
    np.testing.assert_allclose(some.curvature, whole.curvature)


@pytest.mark.parametrize("rows", [[10, 20, 30], [4000, 9000, 50], [10**6] * 1000, [1, 1], [9000, 9000, 9000]])
def test_samples_fill_what_there_is_room_for(rows: list[int]) -> None:
    sizes = sample_sizes(np.array(rows, float))
    room = start_reading.SAMPLED_ROWS
    assert (sizes <= rows).all()
    assert (sizes >= 1).all()
    assert sizes.sum() == sum(rows) or room - len(rows) < sizes.sum() <= room
    assert sizes[-1] == min(rows[-1], start_reading.TARGET_ROWS)
    cut = sizes[:-1][sizes[:-1] < rows[:-1]]
    assert len(set(cut)) <= 1


def test_labels_weigh_by_their_tokens(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    classes, labels = (
        _read(problem, tmp_path / "class"),
        _read(problem, tmp_path / "label", answer="label", tokens=4),
    )
    np.testing.assert_allclose(labels.rows.feature, classes.rows.feature, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(4 * labels.gradient, classes.gradient, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(4 * labels.curvature, classes.curvature, rtol=1e-4, atol=1e-6)
    assert (labels.rows.positions == 4).all()


def test_free_text_has_the_margin_of_its_mean_loss(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    found = _read(problem, tmp_path, answer="text", tokens=4)
    loss = np.logaddexp(0, -problem.target.base_margin) / 4
    own = slice(found.rows.starts[-2], found.rows.starts[-1])
    np.testing.assert_allclose(np.logaddexp(0, -found.rows.margin[own]), loss, rtol=1e-4)
    meta = np.logaddexp(0, -found.rows.meta_margin[own])
    gradient = -(1 - np.exp(-meta))[:, None] * found.rows.feature[own, :-1]
    np.testing.assert_allclose(gradient, problem.target.gradient / 4, rtol=1e-3, atol=1e-5)
    wrong = expit(-found.rows.margin[own])[:, None]
    weighted = wrong * (1 - wrong) * found.rows.feature[own]
    curvature = weighted.T @ found.rows.feature[own] / len(weighted)
    np.testing.assert_allclose(found.curvature[-1], curvature, rtol=1e-3, atol=1e-6)
    moved = found.rows.meta_margin[own] - found.rows.base_margin[own]
    assert np.corrcoef(moved, found.rows.feature[own, -1])[0, 1] == pytest.approx(1)
    assert (found.rows.positions == 1).all()
    validation = np.logaddexp(0, -problem.validation.base_margin) / 4
    np.testing.assert_allclose(np.logaddexp(0, -found.validation_margin), validation, rtol=1e-4)


def test_a_base_margin_that_is_not_finite_is_named(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    store = GradientStore(problem.write(tmp_path).uri)
    statistics = read_statistics(store)
    read = store.read

    def broken(task: str, split: Any) -> Any:
        for shard in read(task, split):
            shard.base_margin = np.where(np.arange(len(shard.margin)) == 1, np.nan, shard.base_margin)
            yield shard

    store.read = broken  # type: ignore[method-assign]
    with pytest.raises(GradientStoreError, match="base_margin is not finite in row 'task0-train-1'"):
        read_run_start(store, statistics, "base")


def test_a_block_is_an_independent_projection_of_the_same_start(synthetic: Any) -> None:
    start = synthetic.problem(dimension=8, blocks=2).start()
    first, second = start.block(0), start.block(1)
    products = [each.rows.feature @ each.rows.feature.T for each in (first, second, start)]
    np.testing.assert_allclose(products[0] + products[1], products[2], rtol=1e-9)
    squares = [np.trace(each.curvature[0]) for each in (first, second, start)]
    assert squares[0] + squares[1] == pytest.approx(squares[2])
    np.testing.assert_allclose(first.gradient[:, :-1], start.gradient[:, :4])
