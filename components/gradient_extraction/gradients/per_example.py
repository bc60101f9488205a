"""Per-example gradients, sketched inside the backward pass while they are in the cache.

The weights are frozen, so that the backward pass computes activation gradients only; a hook at every module
that owns a parameter takes its input and its output's gradient and adds each example's gradient of the
parameter to its sketch (see `projection`). Examples do not interact, so one backward pass of the summed loss
holds every example's gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gradsift.components.gradient_extraction.gradients.module_rules import (
    position_bias_gradient,
    relative_biases,
    rule_of,
)
from gradsift.components.gradient_extraction.projection.projection import Projection
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
            InputError: a parameter belongs to a kind of module that has no rule.
        """
        named = dict(model.named_parameters(remove_duplicate=False))
        names = {id(named[name]): name for name in parameters}
        shapes = {name: tuple(named[name].shape) for name in parameters}
        self.rows = 0
        self.projection = Projection(shapes, dimension, width, seed, named[parameters[0]].device)
        self._sketch = torch.empty(0)
        self._keep_graph = False
        self._seen: set[str] = set()
        biases = {id(each.relative_attention_bias): (each, method) for each, method in relative_biases(model)}
        for module in model.modules():
            own = {kind: names.get(id(p)) for kind, p in module.named_parameters(recurse=False)}
            wanted = {kind: name for kind, name in own.items() if name is not None}
            if wanted and id(module) in biases:
                self._put_bias_hook(*biases[id(module)], wanted["weight"])
            elif wanted:
                self._put_hooks(module, wanted)
        model.requires_grad_(False)

    def gradients(self, loss: Tensor, keep_graph: bool) -> Tensor:
        """Return the projected gradient of each example's own term of a summed loss, [rows, d].

        Args:
            loss: sum over the batch of a loss of each example.
            keep_graph: whether another loss of the same forward pass follows.

        Raises:
            InputError: the loss does not depend on a parameter through a module that owns it.
        """
        return self.projection.finish(self.sketches(loss, keep_graph))

    def sketches(self, loss: Tensor, keep_graph: bool) -> Tensor:
        """Return what `gradients` maps to d numbers: sketches [rows, m]; same arguments and errors."""
        self._sketch, self._keep_graph = self.projection.empty_sketch(self.rows), keep_graph
        self._seen.clear()
        loss.backward(retain_graph=keep_graph)
        for name in self.projection.signs:
            if name not in self._seen:
                raise _not_extracted(name, "no call of its module took part in the loss")
        return self._sketch

    def _put_hooks(self, module: nn.Module, wanted: dict[str, str]) -> None:
        first, rule = next(iter(wanted.values())), rule_of(module)
        if rule is None:
            raise _not_extracted(
                first, f"its module is a {type(module).__name__}, expected a linear, norm or embedding layer"
            )
        if isinstance(module, nn.Embedding):
            module.register_forward_pre_hook(self._one_lookup_a_row)

        def hook(_: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            if not torch.is_grad_enabled():
                return
            entry = inputs[0].detach()
            if len(entry) != self.rows or len(output) != self.rows:
                shapes = f"{list(entry.shape)} to {list(output.shape)}"
                raise _not_extracted(
                    first, f"its module maps {shapes} for a batch of {self.rows} examples, not row by row"
                )

            held = [entry]

            def sketch(gradient: Tensor) -> None:
                self._seen.update(wanted.values())
                rule(self.projection, self._sketch, module, wanted, held[0], gradient)
                if not self._keep_graph:
                    held.clear()

            output.requires_grad_(True)
            output.register_hook(sketch)

        module.register_forward_hook(hook)

    def _put_bias_hook(self, owner: Any, method: str, name: str) -> None:
        """Repeat the position bias that a module looks up once for all rows, so that gradients stay apart."""
        table, compute = owner.relative_attention_bias, getattr(owner, method)
        buckets: list[Tensor] = []
        table.register_forward_hook(lambda _, inputs, __: buckets.append(inputs[0].flatten()))

        def compute_a_row(*args: Any, **inputs: Any) -> Tensor:
            bias: Tensor = compute(*args, **inputs).expand(self.rows, -1, -1, -1)
            index = buckets.pop()
            if torch.is_grad_enabled():

                def sketch(gradient: Tensor) -> None:
                    self._seen.add(name)
                    whole = position_bias_gradient(table, index, gradient)
                    self.projection.add_whole(self._sketch, name, whole)

                bias.requires_grad_(True)
                bias.register_hook(sketch)
            return bias

        setattr(owner, method, compute_a_row)

    def _one_lookup_a_row(self, _: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Repeat position ids that the model shares between the rows of a batch, so that gradients stay apart."""
        index = inputs[0]
        shared = index.dim() == 1 or len(index) == 1
        return (index.expand(self.rows, -1) if shared else index, *inputs[1:])


def _not_extracted(name: str, reason: str) -> InputError:
    return InputError(f"The gradient of parameter {name!r} cannot be extracted: {reason}.")
