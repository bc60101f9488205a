"""The logistic weights minimise the documented objective, as independent solvers find it."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from gradsift.components.shared.errors import InputError
from gradsift.components.subset_estimation import logistic
from gradsift.components.subset_estimation.config import SubsetEstimationConfig
from gradsift.components.subset_estimation.logistic import Logistic
from gradsift.components.subset_estimation.ridge import ridge_of


def _solver(problem: Any, **config: Any) -> Logistic:
    statistics = problem.statistics()
    return Logistic(
        statistics,
        problem.train_rows(),
        ridge_of(SubsetEstimationConfig(**({"ridge": 1.0} | config)), statistics),
    )


def _members(problem: Any, mask: Any) -> tuple[Any, Any]:
    members = [rows for rows, member in zip(problem.train, [*mask, True], strict=True) if member]
    return np.concatenate([r.margin for r in members]), np.concatenate([r.feature for r in members])


def _objective(weights: Any, margin: Any, feature: Any, ridge: float) -> tuple[float, Any]:
    z = margin + feature @ weights
    value = np.logaddexp(0, -z).sum() + ridge / 2 * weights @ weights
    return float(value), ridge * weights - feature.T @ expit(-z)


@pytest.mark.parametrize("ridge", [0.01, 0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("scaling", ["per_row", "absolute"])
def test_every_subset_reaches_the_minimum_that_scipy_finds(
    synthetic: Any, ridge: float, scaling: str
) -> None:
    problem, masks = synthetic.problem(tasks=3, rows=30), synthetic.subsets(3)
    solver = _solver(problem, ridge=ridge, ridge_scaling=scaling)
    for mask, weights in zip(masks, solver.weights(masks), strict=True):
        margin, feature = _members(problem, mask)
        own_ridge = solver.ridge.of_rows(np.array([len(margin)]))[0]
        value, gradient = _objective(weights, margin, feature, own_ridge)
        _, first = _objective(np.zeros_like(weights), margin, feature, own_ridge)
        assert np.linalg.norm(gradient) <= 1.01e-8 * np.linalg.norm(first)
        found = minimize(
            _objective, np.zeros_like(weights), (margin, feature, own_ridge), "L-BFGS-B", jac=True
        )
        assert value <= found.fun * (1 + 1e-12)
        assert value == pytest.approx(found.fun, rel=1e-6)


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
    np.testing.assert_allclose(solver.weights(mask[None])[0], peer.coef_[0], rtol=1e-6, atol=1e-9)


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
    np.testing.assert_array_equal(weights[0], 0)
    assert np.abs(weights[1]).max() > 0


def test_subsets_do_not_depend_on_those_solved_with_them(synthetic: Any) -> None:
    problem, masks = synthetic.problem(), synthetic.subsets(4)
    solver = _solver(problem)
    alone = np.concatenate([solver.weights(mask[None]) for mask in masks])
    np.testing.assert_allclose(solver.weights(masks), alone, rtol=1e-6, atol=1e-9)


def test_no_convergence_is_an_error(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MOST_ITERATIONS", 2)
    with pytest.raises(InputError, match="did not converge in 2 iterations"):
        _solver(synthetic.problem(), ridge=1e-3).weights(np.ones((1, 4), bool))
