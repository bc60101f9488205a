"""Whether a task's labels can be learned from its texts: the loss of held-out rows after training on the others."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gradsift.components.shared.linear_model.logistic_regression import logistic_weights
from gradsift.components.shared.linear_model.margins import FloatArray, cross_entropy, linear_margins

RIDGE = 1 / 32
"""The ridge as a share of the sum of the rows' squared features: training as short as a fine-tuning."""


def adapted_loss(gradient: Tensor, margin: Tensor, label: npt.NDArray[np.int64]) -> float:
    """Return the loss of held-out rows after training on the others, over the entropy of the labels.

    Rows are split into halves. Logistic regression on the linear margins of one half,
    sum log(1 + exp(-(b + m.w))) + R/2 |w|^2, gives the loss of the other, and the reverse; 1 is no better than
    guessing by the labels' shares.

    Args:
        gradient: gradient of each row's loss, sketched, [n, m].
        margin: log p/(1-p) of each row's right answer, [n].
        label: each row's label, [n].

    Returns:
        The mean over both halves; not a number where all rows have one label.
    """
    shares = np.bincount(label) / len(label)
    entropy = -float(sum(share * np.log(share) for share in shares if share))
    if entropy == 0:
        return float("nan")
    offset, feature = linear_margins(margin.numpy(), gradient.numpy())
    _, triangle = np.linalg.qr(feature.T.astype(np.float64))
    coordinates = triangle.T  # fewer numbers with the same inner products
    even = np.arange(len(label)) % 2 == 0
    losses = [_held_out_losses(offset, coordinates, half) for half in (even, ~even)]
    return float(np.concatenate(losses).mean()) / entropy


def _held_out_losses(offset: FloatArray, feature: FloatArray, half: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the losses of the rows outside of `half` after logistic regression on those inside."""
    ridge = RIDGE * float(np.square(feature[half]).sum())
    weights = logistic_weights(offset[half], feature[half], ridge) if ridge else np.zeros(feature.shape[1])
    return cross_entropy(offset[~half] + feature[~half] @ weights)
