"""The margin of one row's answer as a linear function of the weights, and the cross-entropy it gives."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

FloatArray = npt.NDArray[np.float64]
StoredArray = npt.NDArray[np.floating]
"""Numbers in the precision of the store, float32, or in a higher one."""

MIN_ERROR = 1e-6
"""Smallest 1 - p that float32 gradients resolve: beyond it a row counts as fit to this probability."""


def linear_margins(margin: StoredArray, gradient: StoredArray) -> tuple[FloatArray, StoredArray]:
    """Return offset b and feature m of every row, so that its margin at weights w is b + m.w.

    The gradient of the margin log p/(1-p) is minus the gradient of the loss over 1-p. Where 1-p is below
    `MIN_ERROR` both the margin and the division stop there, so that nothing overflows and the gradient
    of softplus(-(b + m.w)) at w = 0 is the stored gradient for every row.

    Args:
        margin: [N], log p/(1-p) of the right answer.
        gradient: [N, d], projected gradient of the loss, that is of minus the logarithm of p.

    Returns:
        Offset [N], and feature [N, d] in the gradient's precision.
    """
    offset = np.minimum(margin.astype(np.float64), -logit(MIN_ERROR))
    return offset, gradient / -expit(-offset)[:, None].astype(gradient.dtype)


def cross_entropy(margin: StoredArray) -> FloatArray:
    """Return softplus(-margin) = -log p in nats, elementwise and without overflow."""
    return np.maximum(-margin, 0) + np.log1p(np.exp(-np.abs(margin)))


def error_probability(margin: StoredArray) -> StoredArray:
    """Return 1 - p = 1 / (1 + exp(margin)), elementwise in the margin's precision."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(margin))
