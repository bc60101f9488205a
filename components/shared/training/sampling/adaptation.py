"""Whether a task's labels can be learned from its texts: the loss of held-out rows after training on the others."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NEWTON_STEPS = 8
RIDGE = 1 / 32
"""The ridge as a share of the kernel's trace: training as short as a fine-tuning."""
MIN_ERROR = 1e-6
"""Smallest 1 - p that is divided by: float32 gradients resolve no smaller one."""


def adapted_loss(gradient: Tensor, margin: Tensor, label: npt.NDArray[np.int64]) -> float:
    """Return the loss of held-out rows after training on the others, over the entropy of the labels.

    Rows are split into halves. Logistic regression on the linear margins of one half,
    sum log(1 + exp(-(b + m.w))) + R/2 |w|^2, gives the loss of the other, and the reverse; 1 is no better than
    guessing by the labels' shares. It is solved by Newton's method in the dual, w = sum_i a_i m_i.

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
    margin = margin.clamp(max=-np.log(MIN_ERROR))
    feature = gradient / -torch.sigmoid(-margin).unsqueeze(1)
    kernel = feature @ feature.T
    even = torch.arange(len(label)) % 2 == 0
    losses = [_held_out_loss(kernel, margin, half) for half in (even, ~even)]
    return float(torch.cat(losses).mean()) / entropy


def _held_out_loss(kernel: Tensor, margin: Tensor, half: Tensor) -> Tensor:
    """Return the losses of the rows outside of `half` after logistic regression on those inside."""
    inner = kernel[half][:, half]
    ridge = RIDGE * inner.trace()
    if ridge == 0:
        return torch.nn.functional.softplus(-margin[~half])
    weights = torch.zeros(len(inner), dtype=inner.dtype)
    for _ in range(NEWTON_STEPS):
        error = torch.sigmoid(-(margin[half] + inner @ weights))
        curvature = (error * (1 - error)).clamp(min=MIN_ERROR)
        system = inner + torch.diag(ridge / curvature)
        weights = torch.linalg.solve(system, inner @ weights + error / curvature)
    return torch.nn.functional.softplus(-(margin[~half] + kernel[~half][:, half] @ weights))
