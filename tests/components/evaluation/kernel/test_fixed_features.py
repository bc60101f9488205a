"""Kernels that stay or grow, and projections that agree or do not."""

import numpy as np
import pytest

from gradsift.components.evaluation.kernel.fixed_features import features_of


def test_a_kernel_that_only_grows_keeps_its_cosine() -> None:
    gradients = np.random.default_rng(0).normal(size=(5, 400))
    same = features_of(gradients, gradients)
    assert (same.cosine, same.change, same.growth, same.fixed) == (pytest.approx(1), 0.0, 1.0, True)
    grown = features_of(gradients, 2 * gradients)
    assert (grown.cosine, grown.growth, grown.change) == pytest.approx((1.0, 4.0, 3.0))
    assert not grown.fixed
    assert 0.8 < same.projection_cosine < 1


def test_the_projection_is_judged_by_its_halves() -> None:
    half = np.random.default_rng(0).normal(size=(4, 6))
    assert features_of(np.hstack([half, half]), half).projection_cosine == pytest.approx(1)
    apart = np.hstack([half[:, :1] * [[1], [0], [0], [0]], half[:, :1] * [[0], [1], [0], [0]]])
    assert features_of(apart, half).projection_cosine == 0
