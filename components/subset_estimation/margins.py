"""The margin of one row as a linear function of the weights, and the cross-entropy it gives."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

FloatArray = npt.NDArray[np.float64]

SMALLEST_ERROR = 1e-6
"""Smallest 1 - p that float32 gradients resolve: beyond it a row counts as fit to this probability."""


def linear_margins(margin: FloatArray, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return offset b and feature m of every row, so that its margin at weights w is b + m.w.

    The gradient of the margin log p/(1-p) is minus the gradient of the loss over 1-p. Where 1-p is below
    `SMALLEST_ERROR` both the margin and the division stop there, so that nothing overflows and the gradient
    of softplus(-(b + m.w)) at w = 0 is the stored gradient for every row.

    Args:
        margin: [N], log p/(1-p) of the right answer.
        gradient: [N, d], projected gradient of the loss.

    Returns:
        Offset [N] and feature [N, d].
    """
    offset = np.minimum(margin, -logit(SMALLEST_ERROR))
    return offset, gradient / -expit(-offset)[:, None]


def cross_entropy(margin: FloatArray) -> FloatArray:
    """Return softplus(-margin) = -log p in nats, elementwise and without overflow."""
    return np.maximum(-margin, 0) + np.log1p(np.exp(-np.abs(margin)))
