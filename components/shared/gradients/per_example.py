"""Per-example gradients, sketched inside the backward pass while they are in the cache.

The weights are frozen, so that the backward pass computes activation gradients only; a hook at every module
that owns a parameter takes its input and its output's gradient and adds each example's gradient of the
parameter to its sketch (see `projection`). Examples do not interact, so one backward pass of the summed loss
holds every example's gradient.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradients.module_rules import (
    add_lookups,
    looked_up,
    position_bias_gradient,
    relative_attentions,
    relative_biases,
    relative_tables,
    rule_of,
    source_of,
)
from gradsift.components.shared.gradients.projection import Projection


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
        self._seen: set[str] = set()
        self._row: int | None = None  # where the module at hand computes one row alone
        biases = {id(each.relative_attention_bias): (each, method) for each, method in relative_biases(model)}
        tables = {id(each.rel_embeddings) for each in relative_tables(model)}
        for module in model.modules():
            own = {kind: names.get(id(p)) for kind, p in module.named_parameters(recurse=False)}
            wanted = {kind: name for kind, name in own.items() if name is not None}
            if not wanted or id(module) in tables:
                continue
            if id(module) in biases:
                self._put_bias_hook(*biases[id(module)], wanted["weight"])
            elif isinstance(module, nn.Embedding):
                self._put_lookup_hook(module, wanted["weight"])
            else:
                self._put_hooks(module, wanted)
        for encoder in relative_tables(model):
            self._put_table_hook(encoder, names.get(id(encoder.rel_embeddings.weight)))
        for attention, method in relative_attentions(model):
            self._put_row_loop(attention, method)
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
        self._sketch = self.projection.empty_sketch(self.rows)
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

        def hook(_: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return output
            entry = inputs[0].detach()
            rows = self.rows if self._row is None else 1
            if len(entry) != rows or len(output) != rows:
                shapes = f"{list(entry.shape)} to {list(output.shape)}"
                raise _not_extracted(
                    first, f"its module maps {shapes} for a batch of {self.rows} examples, not row by row"
                )

            alone = self._row is not None

            def add(sketch: Tensor, gradient: Tensor, entry: Tensor) -> None:
                # Most positions of a table are further apart than any two tokens of a row.
                used = gradient[0].any(-1) if alone else slice(None)
                rule(self.projection, sketch, module, wanted, entry[:, used], gradient[:, used])

            output = self._sketched(output, wanted.values(), add, entry)
            return output.clone() if alone else output  # DeBERTa divides some in place

        source_of(module).register_forward_hook(hook)

    def _put_lookup_hook(self, table: nn.Embedding, name: str) -> None:
        """Repeat vectors that are looked up once for all rows, such as those of positions."""

        def hook(_: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return output
            index, scale = looked_up(table, inputs, keywords)
            if index.dim() == 1 or len(index) == 1:
                output = output.expand(self.rows, *output.shape[index.dim() > 1 :])
                index = index.expand(self.rows, -1)

            def add(sketch: Tensor, gradient: Tensor, index: Tensor) -> None:
                add_lookups(self.projection, sketch, name, table, index, scale * gradient)

            return self._sketched(output, [name], add, index)

        table.register_forward_hook(hook, with_kwargs=True)

    def _put_bias_hook(self, owner: Any, method: str, name: str) -> None:
        """Repeat the position bias that a module looks up once for all rows, so that gradients stay apart."""
        table, compute = owner.relative_attention_bias, getattr(owner, method)
        buckets: list[Tensor] = []
        table.register_forward_hook(lambda _, inputs, __: buckets.append(inputs[0].flatten()))

        def compute_a_row(*args: Any, **inputs: Any) -> Tensor:
            bias: Tensor = compute(*args, **inputs).expand(self.rows, -1, -1, -1)
            index = buckets.pop()
            if torch.is_grad_enabled():

                def add(sketch: Tensor, gradient: Tensor, index: Tensor) -> None:
                    self.projection.add_whole(sketch, name, position_bias_gradient(table, index, gradient))

                bias = self._sketched(bias, [name], add, index)
            return bias

        setattr(owner, method, compute_a_row)

    def _put_table_hook(self, owner: Any, name: str | None) -> None:
        """Repeat DeBERTa's table of relative positions, which all rows and layers share.

        Args:
            owner: the encoder.
            name: the table's name where its gradient is wanted.
        """
        get_table = owner.get_rel_embedding

        def get_table_a_row() -> Tensor | None:
            if not torch.is_grad_enabled() or not owner.relative_attention:
                return get_table()
            table = owner.rel_embeddings.weight.expand(self.rows, -1, -1)
            if name is not None:

                def add(sketch: Tensor, gradient: Tensor) -> None:
                    self.projection.add_whole(sketch, name, gradient)

                table = self._sketched(table, [name], add)
            normed: Tensor = owner.LayerNorm(table) if hasattr(owner, "LayerNorm") else table
            return normed

        owner.get_rel_embedding = get_table_a_row

    def _put_row_loop(self, owner: Any, method: str) -> None:
        """Compute DeBERTa's attention to relative positions row by row, each with its own copy of the table."""
        compute = getattr(owner, method)

        def compute_rows(
            query: Tensor, key: Tensor, relative_pos: Tensor, tables: Tensor, scale_factor: int
        ) -> Tensor:
            if not torch.is_grad_enabled():
                return compute(query, key, relative_pos, tables, scale_factor)
            scores = []
            for row, (own_query, own_key, table) in enumerate(
                zip(query.chunk(self.rows), key.chunk(self.rows), tables.unbind(), strict=True)
            ):
                self._row = row
                scores.append(compute(own_query, own_key, relative_pos, table, scale_factor))
            self._row = None
            return torch.cat(scores)

        setattr(owner, method, compute_rows)

    def _sketched(
        self, output: Tensor, names: Iterable[str], add: Callable[..., None], *kept: Tensor
    ) -> Tensor:
        """Return `output`, with a sketch of its parameters' gradients when the backward pass reaches it.

        Args:
            output: what parameters contribute to, of all rows or of the one at hand.
            names: these parameters.
            add: called with the sketches and the output's gradient of these rows, and with `kept`.
            kept: what the forward pass has to keep for it.
        """
        part = slice(None) if self._row is None else slice(self._row, self._row + 1)

        def sketch(gradient: Tensor, *kept: Tensor) -> None:
            self._seen.update(names)
            add(self._sketch[part], gradient, *kept)

        if not output.requires_grad:
            output.requires_grad_(True)
        sketched: Tensor = _Sketched.apply(output, sketch, *kept)
        return sketched


class _Sketched(torch.autograd.Function):
    """The identity; its backward pass calls a function with the gradient and what the forward pass kept.

    Autograd saves it like activations, so layers that are recomputed keep nothing.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, sketch: Callable[..., None], *kept: Tensor) -> Tensor:
        ctx.save_for_backward(*kept)
        ctx.sketch = sketch
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors  # read once, because each access recomputes
        ctx.sketch(gradient, *kept)
        return (gradient, None, *(None for _ in kept))


def _not_extracted(name: str, reason: str) -> InputError:
    return InputError(f"The gradient of parameter {name!r} cannot be extracted: {reason}.")
