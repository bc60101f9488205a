"""Calibration: lines, what is left out, and the choice among candidates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from gradsift.components.shared.errors import InputError
from gradsift.components.subset_estimation.estimators.calibration import (
    MIN_CALIBRATION_RUNS,
    Line,
    best_candidate,
    calibrate,
    fit_line,
    left_out,
    missed_effects,
    relative_error,
)


def _runs(seed: int, runs: int = 12, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Estimates that rise with the true losses."""
    generator = np.random.default_rng(seed)
    estimates = generator.uniform(0.4, 0.8, runs)
    return estimates, 0.2 + 0.9 * estimates + noise * generator.normal(size=runs)


@given(seed=st.integers(0, 1000))
def test_left_out_predictions_are_those_of_scikit_learn(seed: int) -> None:
    estimates, true = _runs(seed)
    expected = cross_val_predict(LinearRegression(), estimates[:, None], true, cv=LeaveOneOut())
    assert left_out(estimates, true) == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 1000), runs=st.integers(3, 8))
def test_left_out_predictions_are_those_of_lines_through_the_others(seed: int, runs: int) -> None:
    generator = np.random.default_rng(seed)
    estimates, true = generator.uniform(size=(3, runs)), generator.uniform(1, 2, runs)
    estimates[2] = 0.4
    others = ~np.eye(runs, dtype=bool)
    for each, found in zip(estimates, left_out(estimates, true), strict=True):
        lines = [fit_line(each[own], true[own]) for own in others]
        assert found == pytest.approx([line.of(e) for line, e in zip(lines, each, strict=True)], rel=1e-6)


@given(
    slope=st.floats(0.01, 10), intercept=st.floats(-2, 2), shift=st.floats(-5, 5), scale=st.floats(0.1, 10)
)
def test_a_line_is_found_and_no_scale_of_the_estimates_matters(
    slope: float, intercept: float, shift: float, scale: float
) -> None:
    estimates = np.linspace(0.3, 0.9, 7)
    true = intercept + slope * estimates
    line = fit_line(estimates, true)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept), rel=1e-6, abs=1e-6)
    other = fit_line(shift + scale * estimates, true)
    assert other.of(shift + scale * estimates) == pytest.approx(true, rel=1e-6, abs=1e-6)


def test_estimates_that_fall_with_the_truth_or_are_all_equal_predict_the_mean() -> None:
    true = np.array([0.5, 0.6, 0.7, 0.9])
    for estimates in (-true, np.full(4, 0.3)):
        assert fit_line(estimates, true) == Line(0.0, pytest.approx(true.mean()))


@given(seed=st.integers(0, 200))
def test_the_informative_candidate_is_chosen_and_beats_the_mean(seed: int) -> None:
    estimates, true = _runs(seed, runs=20)
    noise = np.random.default_rng(seed + 1).uniform(0.4, 0.8, len(true))
    chosen = calibrate(np.stack([noise, estimates]), true)
    assert chosen.best == 1
    assert chosen.line == fit_line(estimates, true)
    assert relative_error(chosen.left_out, true) < relative_error(chosen.left_out_mean, true)


@given(seed=st.integers(0, 200))
def test_the_first_candidate_stands_where_another_is_hardly_better(seed: int) -> None:
    estimates, true = _runs(seed)
    other = estimates + 1e-3 * np.random.default_rng(seed).normal(size=len(true))
    found = [best_candidate(np.stack(pair), true) for pair in ((estimates, other), (other, estimates))]
    assert 0 in found
    assert best_candidate(np.stack([estimates, estimates]), true) == 0


def test_a_run_has_no_say_in_its_own_prediction() -> None:
    estimates = np.stack([_runs(0)[0], _runs(1)[0], _runs(2)[0]])
    true = _runs(1)[1]
    moved = true.copy()
    moved[3] += 0.5
    before, after = calibrate(estimates, true), calibrate(estimates, moved)
    assert before.left_out[3] == after.left_out[3]
    assert before.left_out_mean[3] == after.left_out_mean[3]
    assert (before.left_out != after.left_out).sum() >= len(true) - 1


def test_many_useless_candidates_do_not_look_useful() -> None:
    """Choosing among noise by the same runs that judge it would report an error below the mean's."""
    found = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        true = generator.uniform(0.5, 0.7, 10)
        chosen = calibrate(generator.uniform(size=(50, 10)), true)
        found.append(relative_error(chosen.left_out, true) / relative_error(chosen.left_out_mean, true))
    assert np.mean(found) > 1


def test_too_few_runs_are_refused() -> None:
    estimates, true = _runs(0, runs=MIN_CALIBRATION_RUNS - 1)
    with pytest.raises(InputError, match=r"^There are 4 calibration runs: expected at least 5, or none"):
        calibrate(estimates[None], true)


def _drawn(seed: int, runs: int, effects: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Subsets, and residuals that the effects of their tasks and noise make."""
    generator = np.random.default_rng(seed)
    masks = generator.random((runs, len(effects))) < 0.5
    residuals = -(masks @ effects) + noise * generator.normal(size=runs)
    return masks, residuals - residuals.mean()


def test_effects_that_the_estimates_miss_are_found() -> None:
    effects = np.array([0.05, -0.05, 0.0, 0.02])
    masks, residuals = _drawn(0, 400, effects, 0.01)
    found, variance = missed_effects(masks, residuals)
    assert np.abs(found - effects).max() < 3 * np.sqrt(variance.max()) < 0.02


def test_noise_changes_scores_less_than_it_would_unshrunk() -> None:
    shrunk, plain = [], []
    for seed in range(200):
        masks, residuals = _drawn(seed, 10, np.zeros(6), 0.02)
        found, _ = missed_effects(masks, residuals)
        shrunk.append(np.square(found).mean())
        told = [k for k in range(6) if 0 < masks[:, k].sum() < 10]
        each = [residuals[~masks[:, k]].mean() - residuals[masks[:, k]].mean() for k in told]
        plain.append(np.square(each).mean())
    assert np.mean(shrunk) < 0.3 * np.mean(plain)


def test_a_task_in_all_runs_or_in_none_has_no_effect() -> None:
    masks = np.array([[True, False, True]] * 3 + [[True, False, False]] * 3)
    found, variance = missed_effects(masks, np.array([-1.0, -1.1, -0.9, 1.0, 1.1, 0.9]))
    assert (found[:2] == 0).all()
    assert (variance[:2] == 0).all()
    assert 1 < found[2] < 2
