"""Systems of many subsets have the solutions of each one's own dense system, however their sums are computed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsift.components.shared.errors import InputError
from gradsift.components.subset_estimation.estimators import damped_systems
from gradsift.components.subset_estimation.estimators.damped_systems import DampedSystems, solve
from gradsift.components.subset_estimation.statistics import threads


@pytest.fixture(scope="module")
def small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(damped_systems, "SUBSET_BATCH", 3)
        patch.setattr(damped_systems, "FACTOR_BATCH", 150)
        patch.setattr(damped_systems, "BAND", 40)
        yield


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    tasks=st.integers(1, 12),
    dimension=st.integers(1, 9),
    subsets=st.integers(1, 12),
    kind=st.sampled_from(["any", "empty", "neighbours", "repeated"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_solutions_are_those_of_dense_systems(
    small_pieces: None, seed: int, tasks: int, dimension: int, subsets: int, kind: str, dtype: Any
) -> None:
    generator = np.random.default_rng(seed)
    curvature = _curvatures(generator, tasks, dimension).astype(dtype)
    memberships = _subsets(generator, kind, subsets, tasks)
    ridges, right = generator.uniform(1, 2, subsets), generator.normal(size=(subsets, dimension))
    found = DampedSystems(memberships, curvature, ridges).solutions(right)
    for weights, ridge, side, solution in zip(memberships, ridges, right, found, strict=True):
        system = np.tensordot(weights, curvature.astype(np.float64), 1) + ridge * np.eye(dimension)
        np.testing.assert_allclose(solution, np.linalg.solve(system, side), rtol=1e-9, atol=1e-12)


def _curvatures(generator: np.random.Generator, tasks: int, dimension: int) -> Any:
    """Matrices of any rank, 0 among them."""
    ranks = generator.integers(0, dimension + 1, tasks)
    rows = [generator.normal(size=(rank, dimension)) for rank in ranks]
    return np.stack([row.T @ row for row in rows])


def _subsets(generator: np.random.Generator, kind: str, subsets: int, tasks: int) -> Any:
    memberships = generator.integers(0, 2, (subsets, tasks)).astype(np.float64)
    if kind == "empty":
        memberships[:] = 0
    elif kind == "repeated":
        memberships[:] = memberships[0]
    elif kind == "neighbours":
        memberships[:] = memberships[0]
        changed = generator.integers(tasks, size=subsets)
        memberships[np.arange(subsets), changed] = 1 - memberships[np.arange(subsets), changed]
    return memberships


def test_neighbours_are_summed_by_their_differences_and_others_by_a_product() -> None:
    generator = np.random.default_rng(0)
    curvature, right = _curvatures(generator, 40, 3), generator.normal(size=(40, 3))
    neighbours = np.logical_xor(generator.random(40) < 0.5, np.eye(40)).astype(np.float64)
    anything = generator.integers(0, 2, (40, 40)).astype(np.float64)
    for memberships, by_differences in ((neighbours, True), (anything, False)):
        systems = DampedSystems(memberships, curvature, np.ones(40))
        assert (systems.common is not None) == by_differences
        dense = np.tensordot(memberships, curvature, 1) + np.eye(3)
        expected = np.linalg.solve(dense, right[:, :, None])[:, :, 0]
        np.testing.assert_allclose(systems.solutions(right), expected, rtol=1e-9)


def test_solutions_are_the_same_bits_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    curvature = _curvatures(generator, 10, 60)
    memberships = generator.integers(0, 2, (300, 10)).astype(np.float64)
    found = []
    for cores in (1, 4):
        monkeypatch.setattr(threads, "cores_per_process", lambda cores=cores: cores)
        found.append(DampedSystems(memberships, curvature, np.ones(300)).solutions(np.ones((300, 60))))
    np.testing.assert_array_equal(*found)


def test_factors_are_those_of_the_systems(small_pieces: None) -> None:
    generator = np.random.default_rng(0)
    curvature = _curvatures(generator, 5, 6).astype(np.float32)
    memberships, right = generator.integers(0, 2, (7, 5)).astype(np.float64), np.ones((7, 6))
    systems = DampedSystems(memberships, curvature, np.ones(7))
    factors = systems.factors()
    assert factors.dtype == np.float32
    np.testing.assert_allclose(solve(factors, right), systems.solutions(right), rtol=1e-4)


def test_a_ridge_below_the_rounding_of_the_curvature_is_refused() -> None:
    curvature = -np.eye(3, dtype=np.float32)[None]
    with pytest.raises(InputError, match="ridge is below the rounding of the curvature"):
        DampedSystems(np.ones((1, 1)), curvature, np.array([1e-8])).solutions(np.ones((1, 3)))
