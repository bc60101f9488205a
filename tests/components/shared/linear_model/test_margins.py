"""The linear margin reproduces loss and gradient of every row, however well or badly fit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from gradsift.components.shared.linear_model.margins import (
    MIN_ERROR,
    cross_entropy,
    linear_margins,
)


@given(st.floats(-800, 800), st.floats(-10, 10))
def test_gradient_at_zero_is_the_stored_one(margin: float, gradient: float) -> None:
    offset, feature = linear_margins(np.array([margin]), np.array([[gradient]]))
    assert np.isfinite(feature).all()
    np.testing.assert_allclose(-expit(-offset)[:, None] * feature, [[gradient]], rtol=1e-12)


def test_a_row_fit_beyond_float32_is_not_blown_up() -> None:
    offset, feature = linear_margins(np.array([20.0, 60.0, 1e4]), np.full((3, 2), 1e-8))
    np.testing.assert_allclose(expit(-offset), MIN_ERROR)
    np.testing.assert_allclose(feature, -1e-8 / MIN_ERROR)


@given(st.floats(-800, 800))
def test_loss_at_zero_is_the_stored_one(margin: float) -> None:
    offset, _ = linear_margins(np.array([margin]), np.zeros((1, 1)))
    expected = np.logaddexp(0, -margin)
    np.testing.assert_allclose(cross_entropy(offset), expected, rtol=1e-12, atol=1.01 * MIN_ERROR)


def test_cross_entropy_is_minus_log_p() -> None:
    p = np.array([1e-12, 0.2, 0.5, 0.999])
    np.testing.assert_allclose(cross_entropy(np.log(p / (1 - p))), -np.log(p), rtol=1e-12)
    np.testing.assert_array_equal(cross_entropy(np.array([-1e4, 1e4])), [1e4, 0])
