"""How each kind of module's per-example parameter gradients follow from its input and its output's gradient."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from gradsift.components.shared.gradients.projection import Projection

# The methods by which T5's attentions and MPNet's encoder look up the bias of every relative position.
BIAS_METHODS = ("compute_bias", "compute_position_bias")
# The methods by which DeBERTa's attentions score relative positions.
ATTENTION_METHODS = ("disentangled_attention_bias", "disentangled_att_bias")

Rule = Callable[[Projection, Tensor, nn.Module, Mapping[str, str], Tensor, Tensor], None]
"""Adds gradients to sketches: called with the projection, the sketches [n, m], the module, the wanted ones of its
parameters ({own name: name in the model}), its input [n, ...] and its output's gradient [n, ...]."""


def rule_of(module: nn.Module) -> Rule | None:
    """Return the rule of a module by its kind, or None where there is none."""
    if type(module).forward in (nn.Linear.forward, Conv1D.forward):
        return _linear
    if isinstance(module, nn.LayerNorm) or type(module).__name__.endswith(("RMSNorm", "LayerNorm")):
        return _normalisation
    if hasattr(module, "q_bias") and hasattr(module, "v_bias") and hasattr(module, "in_proj"):
        return _query_and_value_bias
    return None


def source_of(module: nn.Module) -> nn.Module:
    """Return the module whose output's gradient a module's rule takes: itself, but for DeBERTa's attention."""
    return module.get_submodule("in_proj") if rule_of(module) is _query_and_value_bias else module


def looked_up(
    table: nn.Embedding, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[Tensor, float]:
    """Return which rows of a table a call looks up, [n, T] or [T], and what it multiplies them by.

    Some tables of transformers shift the positions that they are given, or scale what they find; they are called on
    a table that holds each row's number.
    """
    if type(table).forward is nn.Embedding.forward:
        return inputs[0], 1.0
    ones = table.weight.new_ones(table.num_embeddings, 1, dtype=torch.float64)
    with torch.no_grad():
        scale = functional_call(table, {"weight": ones}, inputs, dict(keywords)).flatten()[0].item()
        numbers = {"weight": ones.cumsum(0) - 1}
        index = functional_call(table, numbers, inputs, dict(keywords)).squeeze(-1) / scale
    return index.round().long(), scale


def add_lookups(
    projection: Projection, sketch: Tensor, name: str, table: nn.Embedding, index: Tensor, gradient: Tensor
) -> None:
    """Add the gradient of each vector to the row of the table that it was, except at the padding index.

    Args:
        projection: the projection.
        sketch: [n, m].
        name: the table's name in the model.
        table: the table.
        index: what was looked up, [n, ...].
        gradient: that of the vectors, [n, ..., f].
    """
    if isinstance(table.padding_idx, int):
        gradient = gradient.masked_fill((index == table.padding_idx).unsqueeze(-1), 0.0)
    projection.add_rows(sketch, name, index.flatten(1), _tokens(gradient))


def relative_tables(model: nn.Module) -> list[Any]:
    """Return the encoders with a table of vectors of relative positions, as DeBERTa has."""
    return [
        module
        for module in model.modules()
        if isinstance(getattr(module, "rel_embeddings", None), nn.Embedding)
    ]


def relative_attentions(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return the attentions to such positions, each with the name of its method that scores them."""
    return [
        (module, method)
        for module in model.modules()
        for method in ATTENTION_METHODS
        if hasattr(module, method)
    ]


def relative_biases(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return the modules with a learned bias for each relative position, as T5 and MPNet have.

    Returns:
        Each module, with the name of its method that looks the bias up for a batch.
    """
    return [
        (module, method)
        for module in model.modules()
        for method in BIAS_METHODS
        if isinstance(getattr(module, "relative_attention_bias", None), nn.Embedding)
        and hasattr(module, method)
    ]


def position_bias_gradient(table: nn.Embedding, buckets: Tensor, gradient: Tensor) -> Tensor:
    """Return each row's gradient of the table of a relative position bias, [n, buckets, heads].

    Args:
        table: the table.
        buckets: its row for each pair of positions, [q k].
        gradient: that of the bias, [n, heads, q, k].
    """
    rows, heads = gradient.shape[:2]
    result = gradient.new_zeros(rows, heads, table.num_embeddings, dtype=torch.float32)
    return result.index_add_(2, buckets, gradient.flatten(2).float()).mT


def _linear(
    projection: Projection,
    sketch: Tensor,
    module: nn.Module,
    wanted: Mapping[str, str],
    entry: Tensor,
    gradient: Tensor,
) -> None:
    """The bias's gradient is the sum over tokens of the output's, the weight's that of outer products."""
    entry, gradient = _tokens(entry), _tokens(gradient)
    if "bias" in wanted:
        projection.add_vector(sketch, wanted["bias"], gradient.sum(1, dtype=torch.float32))
    if "weight" in wanted:
        factors = (entry, gradient) if isinstance(module, Conv1D) else (gradient, entry)
        projection.add_outer(sketch, wanted["weight"], *factors)


def _query_and_value_bias(
    projection: Projection,
    sketch: Tensor,
    module: nn.Module,
    wanted: Mapping[str, str],
    entry: Tensor,
    gradient: Tensor,
) -> None:
    """DeBERTa adds them to the output of `in_proj`, which has queries, keys and values of each head in turn."""
    of_heads = (
        _tokens(gradient).sum(1, dtype=torch.float32).unflatten(-1, (module.num_attention_heads, 3, -1))
    )
    for own, place in (("q_bias", 0), ("v_bias", 2)):
        if own in wanted:
            projection.add_vector(sketch, wanted[own], of_heads[:, :, place].flatten(1))


def _normalisation(
    projection: Projection,
    sketch: Tensor,
    module: nn.Module,
    wanted: Mapping[str, str],
    entry: Tensor,
    gradient: Tensor,
) -> None:
    """The output is affine in the weight: what multiplies it is the output at weight 1 minus that at weight 0."""
    entry, gradient = entry.float(), gradient.float()
    if "bias" in wanted:
        projection.add_vector(sketch, wanted["bias"], _tokens(gradient).sum(1))
    if "weight" in wanted:
        at_one, at_zero = (
            functional_call(module, {"weight": entry.new_full(entry.shape[-1:], value)}, entry)
            for value in (1.0, 0.0)
        )
        factor = at_one - at_zero
        projection.add_vector(sketch, wanted["weight"], _tokens(gradient * factor).sum(1))


def _tokens(activation: Tensor) -> Tensor:
    """Return an activation [n, ..., f] as [n, T, f]."""
    return activation.reshape(len(activation), -1, activation.shape[-1])
