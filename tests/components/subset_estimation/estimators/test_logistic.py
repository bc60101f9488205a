"""The logistic weights minimise the documented objective, as independent solvers find it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators import logistic
from gradsift.components.subset_estimation.estimators.logistic import Logistic
from gradsift.components.subset_estimation.estimators.ridge import ridge_of


def _solver(problem: Any, dtype: Any = np.float32, **config: Any) -> Logistic:
    statistics = problem.statistics()
    return Logistic(
        statistics,
        problem.train_rows(dtype),
        ridge_of(SubsetEstimationConfig(**({"ridge": 1.0} | config)), statistics),
    )


def _members(problem: Any, mask: Any) -> tuple[Any, Any]:
    members = [rows for rows, member in zip(problem.train, [*mask, True], strict=True) if member]
    return np.concatenate([r.margin for r in members]), np.concatenate([r.feature for r in members])


def _objective(weights: Any, margin: Any, feature: Any, ridge: float) -> tuple[float, Any]:
    z = margin + feature @ weights
    value = np.logaddexp(0, -z).sum() + ridge / 2 * weights @ weights
    return float(value), ridge * weights - feature.T @ expit(-z)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    tasks=st.integers(1, 4),
    rows=st.integers(1, 40),
    dimension=st.integers(1, 12),
    ridge=st.floats(0.01, 100),
    scaling=st.sampled_from(["per_row", "absolute"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_every_subset_reaches_the_minimum_that_scipy_finds(
    synthetic: Any, seed: int, tasks: int, rows: int, dimension: int, ridge: float, scaling: str, dtype: Any
) -> None:
    problem, masks = synthetic.problem(seed, tasks, rows, dimension), synthetic.subsets(tasks)
    solver = _solver(problem, dtype, ridge=ridge, ridge_scaling=scaling)
    for mask, weights in zip(masks, solver.weights(masks), strict=True):
        margin, feature = _members(problem, mask)
        own_ridge = solver.ridge.of_rows(np.array([len(margin)]))[0]
        value, gradient = _objective(weights, margin, feature, own_ridge)
        scale = np.linalg.norm(expit(-margin)[:, None] * feature)
        assert np.linalg.norm(gradient) <= 1.1 * logistic.GRADIENT_TOLERANCE * scale
        found = minimize(
            _objective, np.zeros(dimension), (margin, feature, own_ridge), "L-BFGS-B", True, tol=1e-14
        )
        assert value == pytest.approx(found.fun, rel=1e-6)


def test_it_does_not_depend_on_how_many_subsets_are_solved_at_once(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, masks = synthetic.problem(tasks=5), synthetic.subsets(5)
    whole = _solver(problem, np.float64).weights(masks)
    monkeypatch.setattr(logistic, "SUBSET_BATCH", 3)
    np.testing.assert_allclose(_solver(problem, np.float64).weights(masks), whole, rtol=1e-3, atol=1e-6)


def test_without_offsets_it_is_scikit_learns_regression(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=2, rows=40)
    for rows in problem.train:
        rows.margin[:] = 0
    solver = _solver(problem)
    mask = np.array([True, False])
    margin, feature = _members(problem, mask)
    ridge = solver.ridge.of_rows(np.array([len(margin)]))[0]
    sign = np.where(np.arange(len(margin)) % 2, 1, -1)
    peer = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-10, max_iter=1000)
    peer.fit(sign[:, None] * feature, sign)
    np.testing.assert_allclose(solver.weights(mask[None])[0], peer.coef_[0], rtol=1e-4, atol=1e-6)


def test_it_is_the_gauss_newton_step_where_steps_are_short(synthetic: Any) -> None:
    problem, masks = synthetic.problem(), synthetic.subsets(4)
    near = [problem.estimator(estimator=name, ridge=1e4) for name in ("logistic", "gauss_newton")]
    full, step = (estimator._whole.solver.weights(masks) for estimator in near)
    np.testing.assert_allclose(full, step, rtol=1e-2, atol=1e-3 * np.abs(step).max())


def test_separable_and_badly_scaled_rows_converge(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=2, rows=30)
    for rows in problem.train:
        rows.feature[:, 0] = np.abs(rows.feature[:, 0]) * 100
        rows.margin[:10] = 60.0
        rows.margin[10:15] = -60.0
    weights = _solver(problem, ridge=1e-3).weights(synthetic.subsets(2))
    assert np.isfinite(weights).all()
    assert (weights[:, 0] > 0).all()


def test_rows_without_gradient_leave_the_weights_at_zero(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=2)
    problem.target.feature[:] = 0
    weights = _solver(problem).weights(np.array([[False, False], [True, False]]))
    np.testing.assert_allclose(weights[0], 0, atol=1e-9)
    assert np.abs(weights[1]).max() > 0


def test_no_convergence_is_an_error(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    with pytest.raises(InputError, match="did not converge in 2 iterations"):
        _solver(synthetic.problem(), ridge=1e-3).weights(np.ones((1, 4), bool))
