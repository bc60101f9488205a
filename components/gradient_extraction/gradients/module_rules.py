"""How each kind of module's per-example parameter gradients follow from its input and its output's gradient."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from gradsift.components.gradient_extraction.projection.projection import Projection

# The attribute by which transformers' scaled embeddings (those of Gemma, BART and others) multiply their output.
SCALE = "embed_scale"
# The methods by which T5's attentions and MPNet's encoder look up the bias of every relative position.
BIAS_METHODS = ("compute_bias", "compute_position_bias")

Rule = Callable[[Projection, Tensor, nn.Module, Mapping[str, str], Tensor, Tensor], None]
"""Adds gradients to sketches: called with the projection, the sketches [n, m], the module, the wanted ones of its
parameters ({own name: name in the model}), its input [n, ...] and its output's gradient [n, ...]."""


def rule_of(module: nn.Module) -> Rule | None:
    """Return the rule of a module by its kind, or None where there is none."""
    own_forward = type(module).forward
    if own_forward in (nn.Linear.forward, Conv1D.forward):
        return _linear
    if own_forward is nn.Embedding.forward or (isinstance(module, nn.Embedding) and hasattr(module, SCALE)):
        return _embedding
    if isinstance(module, nn.LayerNorm) or type(module).__name__.endswith(("RMSNorm", "T5LayerNorm")):
        return _normalisation
    return None


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


def _embedding(
    projection: Projection,
    sketch: Tensor,
    module: nn.Module,
    wanted: Mapping[str, str],
    entry: Tensor,
    gradient: Tensor,
) -> None:
    """Each token adds its scaled output's gradient to the row that it looked up, except at the padding index."""
    gradient = gradient * getattr(module, SCALE, 1.0)
    padding = module.padding_idx
    if isinstance(padding, int):
        gradient = gradient.masked_fill((entry == padding).unsqueeze(-1), 0.0)
    projection.add_rows(sketch, wanted["weight"], entry.flatten(1), _tokens(gradient))


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
