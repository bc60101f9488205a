"""Which weights a text reaches: those of a vision tower, for example, take no part in any loss of texts."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def unreached_weights(model: nn.Module, loss: Tensor) -> list[nn.Parameter]:
    """Return the trained weights of a model that no text reaches.

    A module of a list, such as an expert, may be reached by other texts where others of the list are by this one.

    Args:
        model: the model.
        loss: the loss of any text, with its graph.
    """
    return list(_unreached(model, _reached(loss)))


def _reached(loss: Tensor) -> set[int]:
    """Return the identities of the weights in the graph of a loss."""
    waiting: list[Any] = [loss.grad_fn]
    seen, reached = {loss.grad_fn}, set()
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        following = {each for each, _ in node.next_functions if each is not None} - seen
        seen |= following
        waiting += following
    return reached


def _unreached(module: nn.Module, reached: set[int]) -> Iterator[nn.Parameter]:
    own = [each for each in module.parameters(recurse=False) if each.requires_grad]
    yield from (each for each in own if id(each) not in reached)
    children = list(module.children())
    if isinstance(module, nn.ModuleList):
        children = [each for each in children if _is_reached(each, reached)] or children
    for child in children:
        yield from _unreached(child, reached)


def _is_reached(module: nn.Module, reached: set[int]) -> bool:
    return any(id(each) in reached for each in module.parameters())
