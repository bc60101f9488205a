"""Recomputes parts of a model in the backward pass, so that long rows need little memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


class LayerRecomputation:
    """Lets layers keep only their inputs, and computes them again when the backward pass reaches them.

    The gradient checkpointing of transformers works in training mode only, where dropout is on.

    Attributes:
        on: whether the layers of the next forward passes are recomputed.
    """

    def __init__(self, model: nn.Module) -> None:
        self.on = False
        for layer in model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.forward = partial(self._forward, layer.forward)

    def _forward(self, compute: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        if not self.on or not torch.is_grad_enabled():
            return compute(*args, **keywords)
        return recomputed(compute, *args, **keywords)


def recomputed(compute: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call a function without randomness so that its arguments alone are kept for the backward pass."""
    # Hooks of modules would not see the end of a recomputation that stops early.
    return checkpoint(
        compute, *args, use_reentrant=False, preserve_rng_state=False, early_stop=False, **keywords
    )
