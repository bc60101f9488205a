"""Attention that is fast on CPUs too, forward and backward, and keeps nothing for pairs of tokens."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from gradsift.components.shared.models.precision import has_amx


def use_fast_attention() -> None:
    """Let every model of transformers compute its fused attention by `attention`."""
    AttentionInterface.register("sdpa", attention)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute attention as transformers does for `sdpa`, in float32 where bfloat16 is slow.

    On CPUs with AVX-512 BF16 but without AMX, the backward pass of PyTorch's fused attention takes 2 to 5 times as
    long in bfloat16 as in float32 for rows of 32 to 128 tokens. Plain matrix products in bfloat16 are no faster
    than the fused float32, and need memory for every pair of tokens.

    Args:
        module: the attention's module.
        query: [n, heads, T, f].
        key: [n, key heads, T, f].
        value: [n, key heads, T, f].
        attention_mask: booleans, or numbers to add to the scores.
        position_bias: numbers to add to the scores.
        options: as transformers gives them.

    Returns:
        [n, T, heads, f], and None for the weights.
    """
    on_cpu = query.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if not on_cpu or has_amx():
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, position_bias=position_bias, **options
        )
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(
            module,
            query.float(),
            key.float(),
            value.float(),
            _in_float32(attention_mask),
            position_bias=_in_float32(position_bias),
            **options,
        )


def _in_float32(values: Tensor | None) -> Tensor | None:
    return values.float() if values is not None and values.is_floating_point() else values
