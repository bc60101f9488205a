"""Constraints leave what was asked for, and say what cannot be."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.selection.constraints import Constraints, constraints_of


@st.composite
def _constraints(draw: Any) -> Constraints:
    tasks = draw(st.integers(1, 7))
    roles = np.array(draw(st.lists(st.sampled_from("rxf"), min_size=tasks, max_size=tasks)))
    rows = np.array(draw(st.lists(st.integers(1, 9), min_size=tasks, max_size=tasks)), float)
    needed = (roles == "r").sum(), rows[roles == "r"].sum()
    more = draw(st.integers(0, 7)), draw(st.integers(0, 30))
    return Constraints(roles == "r", roles == "x", rows, needed[0] + more[0], needed[1] + more[1])


def _greedy(constraints: Constraints, order: Any, size: int) -> set[int]:
    taken = set(np.flatnonzero(constraints.required).tolist())
    for task in order:
        rows = sum(constraints.rows[list({*taken, task})])
        if len(taken) < min(size, constraints.max_tasks) and rows <= constraints.max_rows:
            taken |= {int(task)} - set(np.flatnonzero(constraints.excluded).tolist())
    return taken


@given(_constraints(), st.integers(0, 8), st.integers(0, 99))
def test_the_first_that_may_be_in_are_those_of_one_walk_along_the_order(
    constraints: Constraints, size: int, seed: int
) -> None:
    orders = np.random.default_rng(seed).random((5, len(constraints.rows))).argsort(axis=1)
    masks = constraints.first(orders, size)
    for order, mask in zip(orders, masks, strict=True):
        assert set(np.flatnonzero(mask)) == _greedy(constraints, order, size)
    assert constraints.fit(masks).all()


@given(_constraints(), st.integers(0, 8))
def test_random_subsets_keep_to_all_constraints(constraints: Constraints, size: int) -> None:
    masks = constraints.random_subsets(size, 20, np.random.default_rng(0))
    assert masks[:, constraints.required].all()
    assert not masks[:, constraints.excluded].any()
    assert constraints.fit(masks).all()
    assert (masks.sum(axis=1) <= max(size, constraints.required.sum())).all()


def test_random_subsets_have_their_size_and_are_uniform() -> None:
    masks = Constraints.none(5).random_subsets(2, 20_000, np.random.default_rng(0))
    assert (masks.sum(axis=1) == 2).all()
    _, counts = np.unique(masks, axis=0, return_counts=True)
    assert len(counts) == 10
    assert np.abs(counts / 2000 - 1).max() < 0.1


@pytest.mark.parametrize(("count", "expected"), [(0, []), (2, [1, 2]), (9, [0, 1, 2, 3])])
def test_highest_takes_the_first_of_equals(count: int, expected: list[int]) -> None:
    chosen = Constraints.none(4).highest(np.array([0.0, 2.0, 1.0, 1.0]), count)
    assert list(np.flatnonzero(chosen)) == expected


def test_only_some_tasks_leaves_required_ones_in() -> None:
    constraints = Constraints(np.array([True, False, False]), np.zeros(3, bool), np.ones(3))
    chosen = constraints.only(np.array([False, True, False])).highest(np.array([0.0, 1.0, 2.0]), 3)
    assert list(chosen) == [True, True, False]


def test_settings_become_constraints(synthetic: Any) -> None:
    config = SubsetEstimationConfig(
        required_tasks=["task2"], excluded_tasks=["task0", "task3"], max_tasks=2, max_rows=50
    )
    constraints = constraints_of(config, synthetic.problem(tasks=4, rows=20).statistics())
    assert list(np.flatnonzero(constraints.required)) == [2]
    assert list(np.flatnonzero(constraints.excluded)) == [0, 3]
    assert list(constraints.rows) == [20, 21, 22, 23]
    assert (constraints.max_tasks, constraints.max_rows) == (2, 50)
    assert constraints_of(SubsetEstimationConfig(), synthetic.problem().statistics()).max_rows == np.inf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"required_tasks": ["task9"]},
            "required_tasks holds 'task9': expected auxiliary tasks, task0, task1.",
        ),
        (
            {"excluded_tasks": ["target"]},
            "excluded_tasks holds 'target': expected auxiliary tasks, task0, task1.",
        ),
        (
            {"required_tasks": ["task0", "task1"], "max_rows": 40},
            "required_tasks hold 41 train rows, but max_rows is 40: expected a budget that they fit in.",
        ),
    ],
)
def test_what_the_store_cannot_give_is_named(synthetic: Any, settings: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        constraints_of(SubsetEstimationConfig(**settings), synthetic.problem(tasks=2, rows=20).statistics())
    assert str(error.value) == message
