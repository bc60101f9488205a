"""Which subsets show how good estimates are."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.records.planning import none_all_and_random


@given(n=st.integers(1, 12), seed=st.integers(0, 100), data=st.data())
def test_subsets_are_none_all_and_distinct_ones_between_in_the_suites_order(
    n: int, seed: int, data: st.DataObject
) -> None:
    tasks = [f"task{index}" for index in range(n)]
    count = data.draw(st.integers(0, min(20, 2**n - 2)))
    subsets = none_all_and_random(tasks, count, seed)
    assert subsets[:2] == [[], tasks]
    assert len({tuple(subset) for subset in subsets}) == len(subsets) == count + 2
    assert all(subset == [task for task in tasks if task in subset] for subset in subsets)
    assert subsets == none_all_and_random(tasks, count, seed)


def test_all_subsets_can_be_asked_for_but_no_more() -> None:
    every = [list(subset) for size in range(4) for subset in itertools.combinations("abc", size)]
    assert sorted(none_all_and_random(["a", "b", "c"], 6, 0)) == sorted(every)
    with pytest.raises(
        InputError,
        match="7 random subsets were asked for: expected at most 6, all that 3 tasks have beside none",
    ):
        none_all_and_random(["a", "b", "c"], 7, 0)


def test_sizes_are_spread_over_all() -> None:
    drawn = none_all_and_random([str(index) for index in range(8)], 100, 1)[2:]
    assert {len(subset) for subset in drawn} == set(range(1, 8))
