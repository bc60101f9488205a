"""Logistic regression on linear margins, with offsets and a ridge, by Newton's method."""

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray, cross_entropy, error_probability

MAX_STEPS, MAX_HALVINGS = 100, 40
TOLERANCE = 1e-10
"""Largest part of the objective that the last step may still have gained."""
SUFFICIENT_DECREASE = 1e-4


def logistic_weights(
    offset: FloatArray, feature: FloatArray, ridge: float, importance: FloatArray | float = 1.0
) -> FloatArray:
    """Return the weights w [d] with the lowest sum_i q_i log(1 + exp(-(b_i + m_i.w))) + R/2 |w|^2.

    A step is halved until it lowers the objective, which is strictly convex, so every start leads to its minimum.

    Args:
        offset: b [n], the margins at w = 0.
        feature: m [n, d].
        ridge: R, above 0.
        importance: q, of every row or of all.
    """
    importance = np.broadcast_to(importance, offset.shape)
    weights, margin = np.zeros(feature.shape[1]), offset
    value = float(importance @ cross_entropy(margin))
    for _ in range(MAX_STEPS):
        wrong = error_probability(margin)
        slope = ridge * weights - (importance * wrong) @ feature
        curvature = (feature * (importance * wrong * (1 - wrong))[:, None]).T @ feature
        curvature[np.diag_indices_from(curvature)] += ridge
        step = -np.linalg.solve(curvature, slope)
        decrease = -float(slope @ step)
        if decrease <= TOLERANCE * value:
            break
        for _ in range(MAX_HALVINGS):
            moved = weights + step
            margin = offset + feature @ moved
            lower = float(importance @ cross_entropy(margin) + ridge / 2 * moved @ moved)
            if lower <= value - SUFFICIENT_DECREASE * decrease:
                break
            step, decrease = step / 2, decrease / 2
        weights, value = moved, lower
    return weights
