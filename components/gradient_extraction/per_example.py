"""Per-example gradients, sketched inside the backward pass while they are in the cache.

The weights are frozen, so that the backward pass computes activation gradients only; a hook at every module
that owns a parameter takes its input and its output's gradient and adds each example's gradient of the
parameter to its sketch (see `projection` for the two ways). Examples do not interact in an encoder, so one
backward pass of the summed loss holds every example's gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradsift.components.gradient_extraction.projection import Projection
from gradsift.components.shared.errors import InputError


class GradientSketcher:
    """Hooks on a model's modules that sketch per-example gradients of the chosen parameters.

    Attributes:
        rows: number of examples of the batch at hand; to be set before its forward pass.
        projection: the projection of the sketched gradients.
    """

    def __init__(
        self, model: nn.Module, parameters: list[str], dimension: int, width: int, seed: int
    ) -> None:
        """Freeze the model and put the hooks on it.

        Args:
            model: the model, in evaluation mode; each example is one row of every activation's first dimension.
            parameters: names of the parameters whose gradient is wanted.
            dimension: d, numbers a projected gradient.
            width: m, width of the sketch.
            seed: decides the projection.

        Raises:
            InputError: a parameter belongs to a kind of module that has no rule here.
        """
        named = dict(model.named_parameters(remove_duplicate=False))
        names = {id(named[name]): name for name in parameters}
        sizes = {name: named[name].numel() for name in parameters}
        linear = {
            names[id(module.weight)]: (module.out_features, module.in_features)
            for module in model.modules()
            if isinstance(module, nn.Linear) and id(module.weight) in names
        }
        tied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        linear = {name: shape for name, shape in linear.items() if id(named[name]) not in tied}
        self.rows = 0
        self._device = named[parameters[0]].device
        self.projection = Projection(sizes, linear, dimension, width, seed, self._device)
        self._sketch = torch.empty(0)
        self._projected = torch.empty(0)
        handled: set[str] = set()
        for module in model.modules():
            own = {kind: names.get(id(p)) for kind, p in module.named_parameters(recurse=False)}
            wanted = {kind: name for kind, name in own.items() if name is not None}
            if wanted:
                self._put_hooks(module, wanted)
                handled |= set(wanted.values())
        missing = sorted(set(parameters) - handled)
        if missing:
            raise InputError(
                f"The gradient of parameter {missing[0]!r} cannot be extracted: no module owns it."
            )
        model.requires_grad_(False)

    def gradients(self, loss: Tensor, keep_graph: bool) -> Tensor:
        """Return the projected gradient of each example's own term of a summed loss, [rows, d].

        Args:
            loss: sum over the batch of a loss of each example.
            keep_graph: whether another loss of the same forward pass follows.
        """
        self._sketch = torch.zeros(self.rows, self.projection.width, device=self._device)
        self._projected = torch.zeros(self.rows, self.projection.dimension, device=self._device)
        loss.backward(retain_graph=keep_graph)
        return self._projected + self.projection.finish(self._sketch)

    def _put_hooks(self, module: nn.Module, wanted: dict[str, str]) -> None:
        rule: Callable[..., None]
        if isinstance(module, nn.Linear):
            rule = self._linear
        elif isinstance(module, nn.LayerNorm):
            rule = self._layer_norm
        elif isinstance(module, nn.Embedding):
            rule = self._embedding
            module.register_forward_pre_hook(self._one_lookup_a_row)
        else:
            raise InputError(
                f"The gradient of parameter {next(iter(wanted.values()))!r} cannot be extracted: its module is a "
                f"{type(module).__name__}, expected Linear, LayerNorm or Embedding."
            )

        def hook(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            if torch.is_grad_enabled():
                output.requires_grad_(True)
                entry = self._kept_input(inputs[0].detach(), output.dtype, wanted)
                output.register_hook(lambda gradient: rule(module, wanted, entry, gradient))

        module.register_forward_hook(hook)

    def _kept_input(self, entry: Tensor, dtype: torch.dtype, wanted: dict[str, str]) -> Tensor:
        """Return what a module's rule needs of its input: already mapped where every backward pass would map it."""
        name = wanted.get("weight")
        if name not in self.projection.factors:
            return entry
        return self.projection.map_input(name, entry.reshape(self.rows, -1, entry.shape[-1]).to(dtype))

    def _one_lookup_a_row(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Repeat position ids that the model shares between the rows of a batch, so that gradients stay apart."""
        return (inputs[0].expand(self.rows, -1), *inputs[1:])

    def _linear(self, module: nn.Linear, wanted: dict[str, str], entry: Tensor, gradient: Tensor) -> None:
        gradient = gradient.reshape(self.rows, -1, gradient.shape[-1])
        if "bias" in wanted:
            self.projection.add(self._sketch, wanted["bias"], gradient.sum(1, dtype=torch.float32))
        name = wanted.get("weight")
        if name in self.projection.factors:
            self._projected += self.projection.khatri_rao(name, gradient, entry)
        elif name is not None:
            entry = entry.reshape(self.rows, -1, entry.shape[-1])
            product = torch.bmm(gradient.float().mT, entry.float())
            self.projection.add(self._sketch, name, product.flatten(1))

    def _layer_norm(
        self, module: nn.LayerNorm, wanted: dict[str, str], entry: Tensor, gradient: Tensor
    ) -> None:
        gradient = gradient.float()
        products = {"bias": gradient}
        if "weight" in wanted:
            products["weight"] = gradient * functional.layer_norm(
                entry.float(), module.normalized_shape, eps=module.eps
            )
        for kind, name in wanted.items():
            per_example = products[kind].reshape(self.rows, -1, gradient.shape[-1]).sum(1)
            self.projection.add(self._sketch, name, per_example)

    def _embedding(
        self, module: nn.Embedding, wanted: dict[str, str], entry: Tensor, gradient: Tensor
    ) -> None:
        if module.padding_idx is not None:
            gradient = gradient.masked_fill((entry == module.padding_idx).unsqueeze(-1), 0.0)
        self.projection.add_rows(self._sketch, wanted["weight"], entry, gradient)
