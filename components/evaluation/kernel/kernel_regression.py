"""What the kernel alone answers: logistic regression on projected margin gradients at the start.

With offsets at the margins of the start, it is kernel logistic regression with the kernel K = M M^T, by the
representer theorem, and the product's own estimator `logistic` at the start in place of theta*.
"""

import numpy as np

from gradsift.components.evaluation.kernel.linearisation import FloatArray
from gradsift.components.evaluation.kernel.margin_rows import MarginRows
from gradsift.components.shared.linear_model.logistic_regression import logistic_weights
from gradsift.components.shared.linear_model.margins import cross_entropy
from gradsift.components.shared.records.kernel_report import RIDGES, RidgeAnswers


def ridge_curve(train: MarginRows, validation: MarginRows, two_labels: bool) -> list[RidgeAnswers]:
    """Return what regression on train rows answers to validation rows, for each of `RIDGES`.

    Args:
        train: the train rows of the subset and the target, or some of them.
        validation: validation rows of the target.
        two_labels: whether the target is answered by one of two classes, so that a positive margin is the right
            answer.
    """
    unit = ridge_unit(train)
    return [
        regression_answers(validation, fitted_weights(train, ridge * unit), ridge, two_labels)
        for ridge in RIDGES
    ]


def fitted_weights(train: MarginRows, ridge: float) -> FloatArray:
    """Return the weights [d] that fit train rows; a row's loss is the mean over the positions of its answer."""
    return logistic_weights(train.margin, train.gradient, ridge, 1 / train.positions)


def regression_answers(rows: MarginRows, weights: FloatArray, ridge: float, two_labels: bool) -> RidgeAnswers:
    """Return the answers to rows under weights [d] that were fitted with this ridge."""
    margin = rows.margin + rows.gradient @ weights
    return RidgeAnswers(
        ridge=ridge,
        loss=float((cross_entropy(margin) / rows.positions).mean()),
        accuracy=float((margin > 0).mean()) if two_labels else None,
    )


def ridge_unit(train: MarginRows) -> float:
    """Return tr(H)/d for H = 1/4 sum_i m_i m_i^T / T_i, the curvature at margins of 0; 1 where it is 0.

    Near margins of 0 it equals the unit of `estimate_ridge`. Unlike that unit, it does not vanish where the start
    is certain, such as a language model that has not yet learned to answer with labels.
    """
    squares = np.square(train.gradient).sum(axis=1) / train.positions
    return float(squares.sum()) / (4 * max(1, train.gradient.shape[1])) or 1.0
