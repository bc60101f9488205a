"""A model's parameters in blocks: embeddings, one layer after the other, and the head."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from torch import nn

EMBEDDINGS, HEAD = "embeddings", "head"


@dataclass(frozen=True)
class Block:
    """Parameters that are trained or frozen together.

    Attributes:
        name: `embeddings`, `layer 0` and so on in the order of the forward pass, or `head`.
        parameters: the parameters; a weight that embeddings and head share is in both.
    """

    name: str
    parameters: list[nn.Parameter]

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer of the network."""
        return self.name not in (EMBEDDINGS, HEAD)


def blocks_of(
    model: nn.Module, embeddings: Iterable[nn.Parameter], head: Iterable[nn.Parameter]
) -> list[Block]:
    """Return the blocks of a model, which together hold all of its parameters.

    A layer is an element of the outermost lists of modules; lists whose parameters are all frozen, such as those
    of a vision tower that no text reaches, are not counted. What is neither in a layer nor in `embeddings` or
    `head` goes with the layer before it, with the embeddings where there is none, or where it is a table or named
    after them, and with the head after the last layer: a final norm, for example.

    Args:
        model: the model, its modules in the order of the forward pass.
        embeddings: parameters of the embedding tables.
        head: parameters of the output layer.
    """
    layers = list(_layers(model))
    places = {id(each): place for place, layer in enumerate(layers) for each in layer}
    tables, outputs = list(embeddings), list(head)
    more_tables = {
        id(each)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for each in module.parameters()
    }
    fixed = {**dict.fromkeys(map(id, outputs), len(layers)), **dict.fromkeys(map(id, tables), -1)}
    found: list[list[nn.Parameter]] = [[] for _ in range(len(layers) + 2)]
    place = -1
    for name, parameter in model.named_parameters():
        place = places.get(id(parameter), place)
        own = fixed.get(id(parameter), places.get(id(parameter)))
        if own is None:
            after_last = len(layers) if place == len(layers) - 1 else place
            own = -1 if "embed" in name or id(parameter) in more_tables else after_last
        found[own + 1].append(parameter)
    found[-1] += [each for each in outputs if fixed[id(each)] == -1]
    names = [EMBEDDINGS, *(f"layer {number}" for number in range(len(layers))), HEAD]
    return [Block(name, parameters) for name, parameters in zip(names, found, strict=True)]


def _layers(module: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters of each layer; lists of equal length side by side hold parts of the same layers."""
    lists = [child for child in module.children() if isinstance(child, nn.ModuleList) and _is_trained(child)]
    if lists:
        main = max(lists, key=lambda each: sum(weight.numel() for weight in each.parameters()))
        same = [each for each in lists if len(each) == len(main)]
        for parts in zip(*same, strict=True):
            yield list(chain.from_iterable(part.parameters() for part in parts))
    for child in module.children():
        if not isinstance(child, nn.ModuleList):
            yield from _layers(child)


def _is_trained(module: nn.Module) -> bool:
    return any(each.requires_grad for each in module.parameters())
