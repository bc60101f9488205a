"""Rates are found again from the run that they made, and follow the recipe."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.subset_estimation.estimators.learning_rates import (
    FACTORS,
    learning_rates,
    matched_rate,
    stable_stride,
)
from gradsift.components.subset_estimation.estimators.run_rates import RunRates
from gradsift.components.subset_estimation.estimators.simulated import Simulated

META = TrainingRecipe(epochs=3, batch_size=16)


def _trained_at(start: Any, rate: float, recipe: TrainingRecipe = META) -> Any:
    """Return a start whose theta* is where descent at this rate leads from the base weights."""
    run = Simulated(start.rows, RunRates(recipe, start.counts), np.array([rate]))
    weights = run.weights(np.ones((1, len(start.counts))))[0, 0]
    moved = start.rows.base_margin + start.rows.feature @ weights
    return replace(start, rows=replace(start.rows, meta_margin=moved))


@pytest.mark.parametrize("rate", [0.003, 0.03, 0.3])
def test_the_rate_that_meta_training_took_is_found_again(synthetic: Any, rate: float) -> None:
    start = _trained_at(synthetic.problem(rows=40).start(), rate)
    assert matched_rate(start, META) == pytest.approx(rate, rel=0.1)


def test_it_is_matched_at_the_base_weights_whatever_runs_start_from(synthetic: Any) -> None:
    start = _trained_at(synthetic.problem(rows=40).start(), 0.03)
    resumed = replace(start, rows=replace(start.rows, margin=start.rows.meta_margin))
    assert matched_rate(resumed, META) == matched_rate(start, META)


def test_the_grid_follows_both_recipes(synthetic: Any) -> None:
    start = _trained_at(synthetic.problem(rows=40).start(), 0.03)
    recipe = TrainingRecipe(steps=40, learning_rate=2.5e-5)
    rates = learning_rates(start, recipe, META)
    np.testing.assert_allclose(rates, matched_rate(start, META) / 4 * FACTORS, rtol=1e-12)
    assert np.median(FACTORS) == 1


def test_a_long_meta_training_is_matched_in_few_steps(synthetic: Any) -> None:
    long = TrainingRecipe(epochs=100, batch_size=16)
    start = _trained_at(synthetic.problem(rows=40).start(), 0.003, long)
    assert matched_rate(start, long) == pytest.approx(0.003, rel=0.1)


def test_where_meta_training_moved_nothing_the_error_says_so(synthetic: Any) -> None:
    start = synthetic.problem().start()
    start = replace(start, rows=replace(start.rows, meta_margin=start.rows.base_margin))
    with pytest.raises(GradientStoreError, match=r"margins at theta\* are those at the base weights"):
        matched_rate(start, META)


def test_steps_are_taken_together_as_far_as_descent_stays_stable(synthetic: Any) -> None:
    start = synthetic.problem(rows=40).start()
    largest = max(np.linalg.eigvalsh(each).max() for each in start.curvature)
    assert stable_stride(start, 2 / largest) == 1
    assert stable_stride(start, 0.01 / largest) == pytest.approx(100, rel=0.05)
    memberships = np.ones((1, 5))
    recipe, rate = TrainingRecipe(steps=4000), np.array([0.01 / largest])
    fine, coarse = (
        Simulated(start.rows, RunRates(recipe, start.counts, stride), rate).weights(memberships)
        for stride in (1, stable_stride(start, float(rate[0])))
    )
    assert np.abs(coarse - fine).max() < 0.02 * np.abs(fine).max()
