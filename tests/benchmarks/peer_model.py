"""The model as other libraries take it: its rows, their losses, its layers, and the exact inner products."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from gradsift.components.shared.models.encoder_classifier import EncoderClassifier


@dataclass(frozen=True)
class Batch:
    """Rows as the model takes them.

    Attributes:
        inputs: what the tokenizer gives, padded on the right, [n, T] each.
        tasks: task index of each row, [n].
        answers: class index of each row's right answer, [n].
    """

    inputs: dict[str, Tensor]
    tasks: Tensor
    answers: Tensor

    @classmethod
    def of(cls, batch: dict[str, Tensor]) -> "Batch":
        """Take what `EncoderClassifier.batch` returns."""
        inputs = {name: value for name, value in batch.items() if name not in ("task", "label")}
        return cls(inputs, batch["task"], batch["label"])

    def __len__(self) -> int:
        return len(self.tasks)

    def part(self, start: int, stop: int) -> "Batch":
        """Return the rows from `start` up to `stop`, without padding that none of them needs."""
        length = int(self.inputs["attention_mask"][start:stop].sum(1).max())
        inputs = {name: value[start:stop, :length] for name, value in self.inputs.items()}
        return Batch(inputs, self.tasks[start:stop], self.answers[start:stop])

    def tensors(self) -> list[Tensor]:
        """Return tasks, answers and the inputs in their order: what `row_loss` takes, for all rows."""
        return [self.tasks, self.answers, *self.inputs.values()]

    def keywords(self) -> dict[str, Tensor]:
        """Return what `EncoderClassifier.forward` takes."""
        return {"task": self.tasks, "label": self.answers, **self.inputs}


def exact_inner_products(
    model: EncoderClassifier, batches: list[Batch], parameters: list[str], held: int = 2**28
) -> Tensor:
    """Return the inner products of the examples' loss gradients over some parameters, [n, n] in float64.

    Args:
        model: in eval mode.
        batches: the examples.
        parameters: names of the parameters.
        held: about how many numbers to hold at once; a parameter is never split.
    """
    rows = [batch.part(row, row + 1) for batch in batches for row in range(len(batch))]
    result = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    named = dict(model.named_parameters())
    group: list[nn.Parameter] = []
    for position, name in enumerate(parameters):
        group.append(named[name])
        following = named[parameters[position + 1]].numel() if position + 1 < len(parameters) else held
        if len(rows) * (sum(parameter.numel() for parameter in group) + following) >= held:
            gradients = [torch.autograd.grad(losses(model, row).sum(), group) for row in rows]
            for columns in zip(*gradients, strict=True):
                matrix = torch.stack([column.flatten() for column in columns])
                result += (matrix @ matrix.T).double()
            group = []
    return result


def losses(model: EncoderClassifier, batch: Batch) -> Tensor:
    """Return each row's cross-entropy, [n]."""
    scores = model.scores(batch.tasks, **batch.inputs)
    return functional.cross_entropy(scores, batch.answers, reduction="none")


def row_loss(
    model: nn.Module, parameters: dict[str, Tensor], names: list[str], tensors: list[Tensor]
) -> Tensor:
    """Return one row's loss as a function of the parameters, for `torch.func`.

    Args:
        model: an `EncoderClassifier`, in `additive_attention_mask`.
        parameters: values for some of its parameters.
        names: names of the inputs.
        tensors: the row's task, answer and inputs, without the rows' dimension.
    """
    task, answer, *inputs = [tensor.unsqueeze(0) for tensor in tensors]
    keywords = {"task": task, "label": answer, **dict(zip(names, inputs, strict=True))}
    loss: Tensor = functional_call(model, parameters, kwargs=keywords)["loss"]
    return loss


@contextmanager
def additive_attention_mask(model: EncoderClassifier) -> Iterator[None]:
    """Make the encoder fit for `vmap`: its mask as numbers to add, [n, 1, 1, T], and attention as plain products.

    Transformers looks into a mask of zeros and ones to see whether it can be dropped, which `vmap` does not allow.
    The fused attention kernel works under `vmap`, but more slowly than plain products.
    """

    def replace(module: nn.Module, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        padding = keywords["attention_mask"][:, None, None, :] == 0
        mask = torch.zeros(padding.shape).masked_fill(padding, torch.finfo(torch.float32).min)
        return args, keywords | {"attention_mask": mask}

    attention = model.encoder.config._attn_implementation
    model.encoder.set_attn_implementation("eager")
    hook = model.encoder.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        model.encoder.set_attn_implementation(attention)


@contextmanager
def only_trainable(model: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Let only the named parameters require gradients inside the block."""
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    chosen = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require gradients, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the Linear layers with trainable weights, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    }
