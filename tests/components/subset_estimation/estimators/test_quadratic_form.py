"""The search form is gradient descent and ridge regression on the quadratic form, and near the exact form."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.subset_estimation.estimators.quadratic_form import QuadraticForm, krylov
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.estimators.run_rates import RunRates, learning_rate_factors
from gradsift.components.subset_estimation.estimators.simulated import Simulated

ETAS = np.array([0.02, 0.1])


def _form(start: Any, recipe: TrainingRecipe, *ridges: Ridge) -> QuadraticForm:
    ridges = ridges or (Ridge(0.5, None),)
    return QuadraticForm(start, RunRates(recipe, start.counts), ETAS, ridges)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), dimension=st.integers(1, 12), exponent=st.floats(0, 1))
def test_it_is_descent_and_ridge_regression_with_the_subsets_own_sums(
    synthetic: Any, seed: int, dimension: int, exponent: float
) -> None:
    start = synthetic.problem(seed, 2, 10, dimension).start()
    recipe = TrainingRecipe(steps=7, sampling_exponent=exponent)
    memberships = np.column_stack([synthetic.subsets(2), np.ones(4)])
    found = _form(start, recipe).weights(memberships)
    for weights, members in zip(found, memberships, strict=True):
        sizes = members * start.counts**exponent
        shares = sizes / sizes.sum()
        gradient, curvature = shares @ start.gradient, np.tensordot(shares, start.curvature, 1)
        for eta, own in zip(ETAS, weights, strict=False):
            w = np.zeros(dimension + 1)
            for factor in learning_rate_factors(7):
                w = w - eta * factor * (gradient + curvature @ w)
            np.testing.assert_allclose(own, w, rtol=1e-4, atol=1e-6)
        ridge = np.linalg.solve(curvature + 0.5 * np.eye(dimension + 1), -gradient)
        np.testing.assert_allclose(weights[-1], ridge, rtol=1e-4, atol=1e-5)


def test_an_absolute_ridge_weighs_less_where_there_are_more_rows(synthetic: Any) -> None:
    start = synthetic.problem(tasks=1).start()
    both = _form(start, TrainingRecipe(steps=3), Ridge(0.5, None), Ridge(0.5, 40.0))
    found = both.weights(np.ones((1, 2)))[0]
    np.testing.assert_allclose(found[-1], found[-2], rtol=1e-9)
    alone = both.weights(np.array([[0.0, 1.0]]))[0]
    assert np.linalg.norm(alone[-1]) < np.linalg.norm(alone[-2])


def test_many_steps_cost_no_more_and_do_not_diverge(synthetic: Any) -> None:
    start = synthetic.problem().start()
    start.curvature[:] *= 100
    assert np.isfinite(_form(start, TrainingRecipe(steps=3000)).weights(np.ones((1, 5)))).all()


def test_few_directions_suffice_for_a_falling_spectrum() -> None:
    generator = np.random.default_rng(0)
    rotation = np.linalg.qr(generator.normal(size=(200, 200)))[0]
    values = 30 / np.arange(1, 201) ** 1.5
    curvature, gradient = rotation * values @ rotation.T, generator.normal(size=200)
    basis, projected, norm = krylov(curvature, gradient)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-9)
    np.testing.assert_allclose(projected, basis @ curvature @ basis.T, atol=1e-9)
    inner = np.linalg.solve(projected + np.eye(len(basis)), norm * np.eye(len(basis))[0])
    exact = np.linalg.solve(curvature + np.eye(200), gradient)
    assert np.linalg.norm(inner @ basis - exact) < 0.01 * np.linalg.norm(exact)


def test_a_zero_gradient_moves_nothing(synthetic: Any) -> None:
    start = synthetic.problem().start()
    start.gradient[:] = 0
    assert (_form(start, TrainingRecipe(steps=3)).weights(np.ones((1, 5))) == 0).all()


def test_it_ranks_subsets_as_the_exact_form_does(synthetic: Any) -> None:
    start = synthetic.problem(tasks=6, rows=40).start()
    recipe, memberships = TrainingRecipe(steps=40), np.column_stack([synthetic.subsets(6), np.ones(64)])
    rates = RunRates(recipe, start.counts)
    exact = Simulated(start.rows, rates, ETAS).weights(memberships)
    search = _form(start, recipe).weights(memberships)[:, :2]

    def losses(weights: Any) -> Any:
        margins = start.validation_margin + weights @ start.validation_feature.T
        return np.logaddexp(0, -margins).mean(axis=(1, 2))

    assert spearmanr(losses(search), losses(exact)).statistic > 0.9
    small = 1e-3
    tiny = [
        Simulated(start.rows, rates, small * ETAS).weights(memberships),
        QuadraticForm(start, rates, small * ETAS, [Ridge(0.5, None)]).weights(memberships)[:, :2],
    ]
    np.testing.assert_allclose(tiny[1], tiny[0], rtol=1e-2, atol=1e-8)


@pytest.mark.parametrize("count", [1, 30])
def test_subsets_are_independent_of_each_other(synthetic: Any, count: int) -> None:
    form = _form(synthetic.problem().start(), TrainingRecipe(steps=5))
    memberships = np.column_stack([synthetic.subsets(4), np.ones(16)])
    repeated = np.repeat(memberships, count, axis=0)
    np.testing.assert_allclose(form.weights(repeated)[::count], form.weights(memberships), rtol=1e-9)
