"""Baselines take the selection's size and rank by what they say."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.subset_estimation.baselines import BASELINES


def _choose(name: str, problem: Any, selected: Any, seed: int = 0) -> Any:
    return BASELINES[name](problem.statistics(), np.array(selected, bool), np.random.default_rng(seed))


def test_all_and_target_only(synthetic: Any) -> None:
    problem = synthetic.problem()
    assert _choose("all", problem, [0, 1, 0, 0]).all()
    assert not _choose("target_only", problem, [0, 1, 0, 0]).any()


@pytest.mark.parametrize("name", ["random", "gradient_cosine", "gradient_dot"])
@pytest.mark.parametrize("size", range(5))
def test_the_others_take_as_many_tasks_as_the_selection(synthetic: Any, name: str, size: int) -> None:
    selected = np.arange(4) < size
    assert _choose(name, synthetic.problem(), selected).sum() == size


def test_a_random_subset_is_another_one_than_the_selection(synthetic: Any) -> None:
    problem = synthetic.problem()
    draws = [_choose("random", problem, [1, 0, 0, 0], seed) for seed in range(50)]
    assert not any(draw[0] for draw in draws)
    assert np.stack(draws)[:, 1:].any(axis=0).all()


def test_cosine_ranks_directions_and_dot_ranks_lengths_too(synthetic: Any) -> None:
    def rows(*feature: float) -> Any:
        return synthetic.Rows(np.zeros(10), np.tile(np.array(feature), (10, 1)))

    problem = synthetic.Problem(
        {
            "long": rows(5.0, 5.0),
            "aligned": rows(1.0, 0.0),
            "against": rows(-9.0, 0.0),
            "zero": rows(0.0, 0.0),
        },
        target=rows(0.0, 1.0),
        validation=rows(1.0, 0.0),
    )
    assert list(_choose("gradient_dot", problem, [1, 0, 0, 0])) == [True, False, False, False]
    assert list(_choose("gradient_cosine", problem, [1, 0, 0, 0])) == [False, True, False, False]
    assert list(_choose("gradient_cosine", problem, [1, 1, 1, 0])) == [True, True, False, True]


def test_the_number_of_rows_does_not_count(synthetic: Any) -> None:
    generator = np.random.default_rng(0)
    many = synthetic.rows(generator, 400, 4)
    many.feature[:] = [0.5, 0, 0, 0]
    few = synthetic.Rows(many.margin[:4], 2 * many.feature[:4])
    problem = synthetic.Problem({"many": many, "few": few}, few, few)
    assert list(_choose("gradient_dot", problem, [1, 0])) == [False, True]
