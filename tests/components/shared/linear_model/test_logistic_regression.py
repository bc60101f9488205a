"""The minimum of logistic regression with offsets against a general optimiser, in primal and in dual form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from gradsift.components.shared.linear_model.logistic_regression import logistic_weights


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 12),
    columns=st.integers(1, 6),
    scale=st.floats(0.1, 30),
    ridge=st.floats(1e-3, 1e3),
)
def test_the_slope_is_zero_at_the_weights(
    seed: int, rows: int, columns: int, scale: float, ridge: float
) -> None:
    """The objective is strictly convex, so that no other weights have a slope of zero."""
    generator = np.random.default_rng(seed)
    offset, feature = scale * generator.normal(size=rows), scale * generator.normal(size=(rows, columns))
    importance = generator.uniform(0.2, 2, rows)
    weights = logistic_weights(offset, feature, ridge, importance)
    wrong = importance / (1 + np.exp(offset + feature @ weights))
    assert wrong @ feature == pytest.approx(ridge * weights, rel=1e-3, abs=1e-4 * scale)


def test_it_is_kernel_logistic_regression() -> None:
    """By the representer theorem: weights of rows, with K = M M^T, give the same margins of other rows."""
    generator = np.random.default_rng(0)
    offset, feature, other = (
        generator.normal(size=8),
        generator.normal(size=(8, 20)),
        generator.normal(size=20),
    )
    kernel, ridge = feature @ feature.T, 0.7

    def objective(rows: np.ndarray) -> float:
        return float(np.logaddexp(0, -(offset + kernel @ rows)).sum() + ridge / 2 * rows @ kernel @ rows)

    dual = minimize(objective, np.zeros(8), tol=1e-12).x
    weights = logistic_weights(offset, feature, ridge)
    assert other @ weights == pytest.approx(other @ feature.T @ dual, rel=1e-4)
