"""The coverage sampler: which sources are chosen, by which shares, and which are left out first."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.training.sampling.derts import derts, distances, facility_location
from gradsift.components.shared.training.sampling.task_probe import TaskProbe

POINTS = st.tuples(st.integers(2, 8), st.integers(0, 2**32)).map(
    lambda drawn: np.random.default_rng(drawn[1]).normal(size=(drawn[0], 3))
)


def probe(gradient: np.ndarray, adapted: list[float] | None = None) -> TaskProbe:
    tasks = ["target", *(f"source{number}" for number in range(1, len(gradient)))]
    plain = np.asarray(gradient, float)
    return TaskProbe(tasks, plain, np.full_like(plain, np.nan), np.array(adapted or [np.nan] * len(tasks)))


def settings(max_tasks: int, robust: bool = True) -> MetaSampling:
    return MetaSampling(sampler="derts", max_tasks=max_tasks, robust=robust)


@given(POINTS)
def test_distances_are_those_between_the_points(points: np.ndarray) -> None:
    expected = np.linalg.norm(points[:, None] - points, axis=2)
    np.testing.assert_allclose(distances(points), expected, atol=1e-7)


def covered(gaps: np.ndarray, chosen: tuple[int, ...]) -> float:
    return float(gaps[:, list(chosen)].min(axis=1).sum())


@given(POINTS, st.data())
def test_the_greedy_choice_reaches_1_minus_1_over_e_of_the_largest_gain(
    points: np.ndarray, data: st.DataObject
) -> None:
    gaps = distances(points)
    count = data.draw(st.integers(0, len(points) - 1))
    chosen, nearest = facility_location(gaps, [0], count)
    assert len(set(chosen)) == count + 1
    assert chosen[0] == 0
    others = combinations(range(1, len(points)), count)
    best = min(covered(gaps, (0, *subset)) for subset in others)
    start, reached = covered(gaps, (0,)), covered(gaps, tuple(chosen))
    assert start - reached >= (1 - 1 / np.e) * (start - best) - 1e-9
    assert [gaps[point, own] for point, own in enumerate(nearest)] == pytest.approx(
        gaps[:, chosen].min(axis=1)
    )


@given(POINTS, st.data())
def test_each_next_point_is_the_one_that_covers_most(points: np.ndarray, data: st.DataObject) -> None:
    gaps = distances(points)
    count = data.draw(st.integers(1, len(points) - 1))
    chosen, _ = facility_location(gaps, [0], count)
    for size in range(1, count + 1):
        before = tuple(chosen[:size])
        losses = [covered(gaps, (*before, point)) for point in range(len(points))]
        assert losses[chosen[size]] == pytest.approx(min(losses))


def test_shares_are_the_numbers_of_tasks_that_the_chosen_stand_for() -> None:
    gradient = np.array([[0, 0], [5, 0], [5.1, 0], [5.2, 0], [0, 0.1], [-9, 0], [-9, 0.1]])
    found = derts(probe(gradient), "target", settings(2))
    assert found.stands_for == {
        "target": ["target", "source4"],
        "source2": ["source1", "source2", "source3"],
        "source5": ["source5", "source6"],
    }
    assert found.shares == pytest.approx(
        {"target": 2 / 7, "source2": 3 / 7, "source5": 2 / 7}
        | dict.fromkeys(["source1", "source3", "source4", "source6"], 0)
    )
    assert (found.adapted, found.dropped) == ({}, [])


def test_the_half_that_is_learned_worst_is_left_out_first() -> None:
    gradient = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    adapted = [9.0, 1.1, 0.4, 1.3, 0.6]
    found = derts(probe(gradient, adapted), "target", settings(2))
    assert found.dropped == ["source3", "source1"]
    assert set(found.stands_for) == {"target", "source2", "source4"}
    assert found.adapted == {"source1": 1.1, "source2": 0.4, "source3": 1.3, "source4": 0.6}
    kept = derts(probe(gradient, adapted), "target", settings(2, robust=False))
    assert kept.dropped == []
    assert kept.adapted == found.adapted


def test_no_more_are_left_out_than_the_number_of_sources_allows_and_none_without_labels() -> None:
    gradient = np.arange(5.0)[:, None]
    assert derts(probe(gradient, [1, 5, 4, 3, 2]), "target", settings(3)).dropped == ["source1"]
    assert derts(probe(gradient, [1, np.nan, 4, 3, np.nan]), "target", settings(1)).dropped == ["source2"]


@given(POINTS, st.data())
def test_the_target_is_always_trained_on_and_so_many_sources(points: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(points) - 1))
    adapted = data.draw(st.lists(st.floats(0, 3), min_size=len(points), max_size=len(points)))
    found = derts(probe(points, adapted), "target", settings(count))
    drawn = [task for task, share in found.shares.items() if share]
    assert "target" in drawn
    assert len(drawn) == count + 1
    assert not set(drawn) & set(found.dropped)
    assert sum(found.shares.values()) == pytest.approx(1)


def test_copies_of_one_gradient_are_chosen_one_by_one() -> None:
    found = derts(probe(np.ones((4, 2))), "target", settings(2))
    assert len(found.stands_for) == 3
    assert sum(map(len, found.stands_for.values())) == 4
