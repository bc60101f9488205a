"""What runs may change: first the level, then the slope, and the weights as runs accumulate."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from gradsift.components.subset_estimation.estimators.mixture_fit import (
    NOISE,
    SLOPE,
    WEIGHT,
    fit_mixture,
    left_out_losses,
)


def _members(runs: int, members: int = 4, seed: int = 0) -> Any:
    """Return estimates [J, K]: what all share, and something of each member's own."""
    generator = np.random.default_rng(seed)
    common = generator.normal(size=runs)
    return 1 + 0.1 * common + 0.05 * generator.normal(size=(members, runs))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), runs=st.integers(1, 12), members=st.integers(1, 6))
def test_it_is_the_most_probable_correction(seed: int, runs: int, members: int) -> None:
    """Against the normal equations of the penalised squares, written out term by term."""
    estimates = _members(runs, members, seed)
    true = np.random.default_rng(seed + 1).uniform(0.5, 1.5, runs)
    fit = fit_mixture(estimates, true)
    mean = estimates.mean(axis=0)
    design = np.vstack(
        [mean - mean.mean(), estimates - mean - (estimates - mean).mean(axis=1, keepdims=True)]
    ).T
    penalty = np.diag([1 / SLOPE**2, *np.full(members, members / WEIGHT**2)]) * (NOISE * true.mean()) ** 2
    right = design.T @ (true - true.mean()) + penalty @ np.eye(members + 1)[0]
    slope, *deviations = np.linalg.solve(design.T @ design + penalty, right)
    expected = true.mean() + design @ [slope, *deviations]
    np.testing.assert_allclose(fit.of(estimates), expected, rtol=1e-7)
    assert fit.slope == pytest.approx(slope)
    assert fit.shares.sum() == pytest.approx(1)


def test_one_run_sets_the_level_alone() -> None:
    estimates = _members(1)
    fit = fit_mixture(estimates, np.array([0.4]))
    np.testing.assert_allclose(fit.weights, 1 / 4)
    assert fit.of(estimates) == pytest.approx([0.4])


def test_two_runs_that_hardly_differ_leave_slope_and_ranking() -> None:
    estimates = _members(12)
    pair = np.array([0.6, 0.61])[np.argsort(-estimates.mean(axis=0)[:2])]
    fit = fit_mixture(estimates[:, :2], pair)
    assert fit.slope == pytest.approx(1, abs=0.1)
    assert spearmanr(fit.of(estimates), estimates.mean(axis=0)).statistic > 0.95


def test_a_wrong_level_is_gone_after_two_runs_and_a_wrong_slope_after_many() -> None:
    estimates = _members(60)
    true = 0.2 + 1.5 * estimates.mean(axis=0)
    few, many = fit_mixture(estimates[:, :2], true[:2]), fit_mixture(estimates, true)
    assert abs(few.of(estimates).mean() - true.mean()) < 0.2 * abs(estimates.mean() - true.mean())
    assert 1 < few.slope < many.slope
    assert many.slope == pytest.approx(1.5, abs=0.25)


def test_weights_move_to_the_member_that_is_right_only_as_runs_accumulate() -> None:
    estimates = 1 + 4 * (_members(200) - 1)
    true = estimates[2]
    shares = [fit_mixture(estimates[:, :runs], true[:runs]).shares[2] for runs in (2, 20, 200)]
    assert shares[0] < 0.4 < shares[1] < shares[2]
    assert shares[2] > 0.7


def test_a_run_is_predicted_by_the_others_alone() -> None:
    estimates, true = _members(6), np.linspace(0.5, 1, 6)
    found = left_out_losses(estimates, true)
    changed = true.copy()
    changed[3] += 10
    assert left_out_losses(estimates, changed)[3] == pytest.approx(found[3])
    assert left_out_losses(estimates, changed)[2] != pytest.approx(found[2])
    assert left_out_losses(estimates[:, :1], true[:1]) == pytest.approx(estimates[:, 0].mean())
