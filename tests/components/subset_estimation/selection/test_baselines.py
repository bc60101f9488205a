"""Baselines take the selection's size and rank by what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.gradient_store.gradient_format import Shard, StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.subset_estimation.estimators.ridge import ridge_of
from gradsift.components.subset_estimation.selection.baselines import BASELINES, BaselineInputs
from gradsift.components.subset_estimation.selection.constraints import Constraints

RANKING = ["gradient_cosine", "gradient_dot", "less", "trak"]


@pytest.fixture
def inputs(tmp_path: Path) -> Any:
    """Makes a baseline's inputs of a problem, written as a store."""

    def make(problem: Any, selected: Any, seed: int = 0, **limits: Any) -> BaselineInputs:
        statistics = problem.statistics()
        output = problem.write(tmp_path / "gradients")
        free = Constraints.none(len(selected))
        return BaselineInputs(
            statistics=statistics,
            store=GradientStore(output.uri, output.digest),
            ridge=ridge_of(SubsetEstimationConfig(ridge=1.0), statistics),
            constraints=replace(free, rows=statistics.rows[:-1], **limits),
            selected=np.array(selected, bool),
            generator=np.random.default_rng(seed),
        )

    return make


def _rows(synthetic: Any, *feature: float, count: int = 10) -> Any:
    return synthetic.Rows(np.zeros(count), np.tile(np.array(feature), (count, 1)))


def _assert_ranked_by(scores: list[Any], name: str, found: BaselineInputs) -> None:
    for size in range(1, len(scores)):
        chosen = BASELINES[name](replace(found, selected=np.arange(len(scores)) < size))
        assert set(np.flatnonzero(chosen)) == set(np.argsort(scores)[-size:])


def test_all_and_target_only(synthetic: Any, inputs: Any) -> None:
    found = inputs(synthetic.problem(), [0, 1, 0, 0])
    assert BASELINES["all"](found).all()
    assert not BASELINES["target_only"](found).any()


def test_the_others_take_as_many_tasks_as_the_selection(synthetic: Any, inputs: Any) -> None:
    found = inputs(synthetic.problem(), [0, 0, 0, 0])
    for size in range(5):
        of_size = replace(found, selected=np.arange(4) < size)
        assert [BASELINES[name](of_size).sum() for name in ["random", *RANKING]] == [size] * 5


def test_the_others_keep_to_the_constraints(synthetic: Any, inputs: Any) -> None:
    limits = {"required": np.array([0, 1, 0, 0], bool), "excluded": np.array([0, 0, 1, 0], bool)}
    found = inputs(synthetic.problem(rows=20), [1, 1, 0, 0], **limits, max_rows=42)
    # Task 1 has 21 train rows and task 3 has 23, so that beside task 1 only task 0 fits.
    for name in ["random", *RANKING]:
        assert list(BASELINES[name](found)) == [True, True, False, False], name
    assert list(BASELINES["all"](found)) == [True, True, False, True]


def test_a_random_subset_is_another_one_than_the_selection(synthetic: Any, inputs: Any) -> None:
    found = inputs(synthetic.problem(), [1, 0, 0, 0])
    draws = [BASELINES["random"](found) for _ in range(50)]
    assert not any(draw[0] for draw in draws)
    assert np.stack(draws)[:, 1:].any(axis=0).all()


def test_cosine_ranks_directions_and_dot_ranks_lengths_too(synthetic: Any, inputs: Any) -> None:
    tasks = {"long": [5.0, 5.0], "aligned": [1.0, 0.0], "against": [-9.0, 0.0], "zero": [0.0, 0.0]}
    problem = synthetic.Problem(
        {name: _rows(synthetic, *feature) for name, feature in tasks.items()},
        target=_rows(synthetic, 0.0, 1.0),
        validation=_rows(synthetic, 1.0, 0.0),
    )
    one, three = inputs(problem, [1, 0, 0, 0]), inputs(problem, [1, 1, 1, 0])
    assert list(BASELINES["gradient_dot"](one)) == [True, False, False, False]
    assert list(BASELINES["gradient_cosine"](one)) == [False, True, False, False]
    assert list(BASELINES["gradient_cosine"](three)) == [True, True, False, True]


def test_the_number_of_rows_does_not_count(synthetic: Any, inputs: Any) -> None:
    generator = np.random.default_rng(0)
    many = synthetic.rows(generator, 400, 4)
    many.feature[:] = [0.5, 0, 0, 0]
    few = synthetic.Rows(many.margin[:4], 2 * many.feature[:4])
    found = inputs(synthetic.Problem({"many": many, "few": few}, few, few), [1, 0])
    assert list(BASELINES["gradient_dot"](found)) == [False, True]
    assert list(BASELINES["trak"](found)) == [False, True]


def test_less_is_the_mean_cosine_of_train_and_validation_rows(synthetic: Any, inputs: Any) -> None:
    problem = synthetic.problem(tasks=5, seed=4)
    scores = []
    for rows in problem.tasks.values():
        cosines = [
            train @ held_out / np.linalg.norm(train) / np.linalg.norm(held_out)
            for train in rows.gradient
            for held_out in problem.validation.gradient
        ]
        scores.append(np.mean(cosines))
    _assert_ranked_by(scores, "less", inputs(problem, [1, 0, 0, 0, 0]))


def test_less_does_not_let_one_long_gradient_decide(synthetic: Any, inputs: Any) -> None:
    one_long = _rows(synthetic, -1.0, 0.1)
    one_long.feature[0] = [90.0, 0.0]
    problem = synthetic.Problem(
        {"one_long": one_long, "aligned": _rows(synthetic, 1.0, 0.9)},
        target=_rows(synthetic, 1.0, 0.0),
        validation=_rows(synthetic, 1.0, 0.0),
    )
    assert list(BASELINES["gradient_cosine"](inputs(problem, [1, 0]))) == [True, False]
    assert list(BASELINES["less"](inputs(problem, [1, 0]))) == [False, True]


def test_trak_is_the_mean_score_of_rows_by_its_formula(synthetic: Any, inputs: Any) -> None:
    problem = synthetic.problem(tasks=5, seed=4)
    for rows in [*problem.train, problem.validation]:
        rows.feature[:] *= np.geomspace(9, 0.1, 8)
    found = inputs(problem, [1, 0, 0, 0, 0])
    ridge = found.ridge.per_row * sum(len(rows.margin) for rows in problem.train)
    matrix = sum(rows.curvature for rows in problem.train) + ridge * np.eye(8)
    wrong = {name: 1 / (1 + np.exp(rows.margin)) for name, rows in problem.tasks.items()}
    scores = [
        np.mean(
            [
                -held_out @ np.linalg.solve(matrix, margin_gradient * error)
                for held_out in problem.validation.gradient
                for margin_gradient, error in zip(rows.feature, wrong[name], strict=True)
            ]
        )
        for name, rows in problem.tasks.items()
    ]
    plain = [
        -rows.gradient.mean(axis=0) @ problem.validation.gradient.sum(axis=0)
        for rows in problem.tasks.values()
    ]
    assert list(np.argsort(scores)) != list(np.argsort(plain))
    _assert_ranked_by(scores, "trak", found)


def test_representations_are_compared_where_they_were_stored(
    synthetic: Any, inputs: Any, tmp_path: Path
) -> None:
    problem = synthetic.problem(tasks=3)
    without = inputs(problem, [1, 0, 0])
    assert BASELINES["representation_similarity"](without) is None
    hidden = {"task0": [1.0, 1.0], "task1": [9.0, 0.5], "task2": [-1.0, 0.0], "target": [1.0, 0.0]}
    stored = replace(without, store=_store_with_hidden(tmp_path / "hidden", without.store, hidden))
    assert list(BASELINES["representation_similarity"](stored)) == [False, True, False]
    two = replace(stored, selected=np.array([True, True, False]))
    assert list(BASELINES["representation_similarity"](two)) == [True, True, False]


def _store_with_hidden(folder: Path, store: GradientStore, hidden: dict[str, list[float]]) -> GradientStore:
    """Copy a store, giving every row of a task the same hidden state; the target's train rows the opposite."""
    header = StoreHeader.model_validate(store.header.model_dump() | {"hidden": 2})
    writer = GradientStoreWriter(open_storage(str(folder)), header)
    records = []
    for task, split in dict.fromkeys((record.task, record.split) for record in store.shards):
        state = np.array(hidden[task]) * (-1 if (task, split) == ("target", "train") else 1)
        for index, shard in enumerate(store.read(task, split)):
            rows = np.tile(state, (len(shard.loss), 1)).astype(np.float32)
            copy = Shard(
                shard.example_id,
                shard.loss,
                shard.margin,
                shard.base_margin,
                shard.gradient,
                shard.probe,
                rows,
            )
            records.append(writer.write_shard(task, split, index, copy))
    return GradientStore(str(folder), writer.seal(records))
