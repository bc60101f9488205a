"""The ridge is scale-free, and grows with the subset's rows or does not, as its scaling says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.ridge import ridge_of


def test_the_unit_is_the_mean_curvature_of_a_row(synthetic: Any) -> None:
    problem = synthetic.problem()
    probes = np.concatenate([rows.probe for rows in problem.train])
    expected = (probes**2).sum(axis=2).mean() / probes.shape[2]
    ridge = ridge_of(SubsetEstimationConfig(ridge=3.0), problem.statistics())
    assert ridge.per_row == pytest.approx(3 * expected)


def test_per_row_grows_with_the_rows(synthetic: Any) -> None:
    ridge = ridge_of(SubsetEstimationConfig(), synthetic.problem().statistics())
    np.testing.assert_allclose(ridge.of_rows(np.array([1.0, 10.0])), [ridge.per_row, 10 * ridge.per_row])


def test_absolute_is_one_number_and_meets_per_row_at_half_of_the_tasks(synthetic: Any) -> None:
    statistics = synthetic.problem(tasks=2, rows=20).statistics()
    per_row = ridge_of(SubsetEstimationConfig(), statistics)
    absolute = ridge_of(SubsetEstimationConfig(ridge_scaling="absolute"), statistics)
    half = 20 + (20 + 21) / 2
    np.testing.assert_allclose(absolute.of_rows(np.array([1.0, 10.0])), per_row.of_rows(np.array([half] * 2)))


def test_a_block_takes_its_share_of_the_ridge(synthetic: Any) -> None:
    ridge = ridge_of(SubsetEstimationConfig(), synthetic.problem().statistics())
    assert ridge.of_block(4).per_row == ridge.per_row / 4


def test_a_store_without_curvature_is_refused(synthetic: Any) -> None:
    statistics = synthetic.problem().statistics()
    flat = replace(statistics, curvature=np.zeros_like(statistics.curvature))
    with pytest.raises(GradientStoreError, match="All probes of the gradient store are zero"):
        ridge_of(SubsetEstimationConfig(), flat)
