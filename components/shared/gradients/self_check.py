"""Checks before the first gradient is stored: wrong or silently zero numbers must not reach a store."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import hadamard
from torch import Tensor, nn

from gradsift.components.shared.errors import ExtractionError
from gradsift.components.shared.gradients.counter_hash import random_bits, random_signs
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.gradients.projection import Projection

TOLERANCE = 1e-3


def check_projection(projection: Projection, shapes: dict[str, tuple[int, ...]]) -> None:
    """Project one entry of every parameter, and compare with the definition, recomputed in NumPy.

    Args:
        projection: the projection, on the device that it will be used on.
        shapes: the parameters' shapes.

    Raises:
        ExtractionError: the device computes something else, zeros for example.
    """
    size = projection.width * projection.dimension
    dense = random_signs(projection.seed, "dense", size).reshape(projection.width, -1)
    for name, shape in shapes.items():
        drawn = np.unravel_index(
            int(random_bits(projection.seed, f"check/{name}", 1)[0] >> np.uint64(1)) % int(np.prod(shape)),
            shape,
        )
        place = tuple(map(int, drawn))
        expected = _projected_entry(projection, name, shape, place, dense)
        sketch = projection.empty_sketch(1)
        if len(shape) == 1:
            projection.add_vector(sketch, name, _unit(shape[0], place[0], sketch)[0])
        else:
            projection.add_outer(
                sketch, name, *(_unit(*each, sketch) for each in zip(shape, place, strict=True))
            )
        found = projection.finish(sketch)[0].double().cpu().numpy()
        if not np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected):
            raise ExtractionError(
                f"The projection of parameter {name!r} is wrong on {sketch.device}: a known vector of norm "
                f"{np.linalg.norm(expected):.3g} came out {np.linalg.norm(found - expected):.3g} away; "
                "the installed torch does not compute correctly on this device."
            )


def check_gradients(
    sketcher: GradientSketcher,
    model: nn.Module,
    losses: Sequence[Callable[[], Tensor]],
    batch: Callable[[], Tensor],
) -> None:
    """Compare sketched gradients of some rows with those of one plain backward pass per row.

    Args:
        sketcher: the sketcher of `model`.
        model: the model.
        losses: one function per row that returns its loss, computed without the others.
        batch: returns the rows' losses [n], computed in one padded batch.

    Raises:
        ExtractionError: they differ, because a weight is used outside its module, or rows influence each other.
    """
    projection = sketcher.projection
    parameters = [dict(model.named_parameters(remove_duplicate=False))[name] for name in projection.signs]
    sketcher.rows = len(losses)
    found = sketcher.sketches(batch().sum(), keep_graph=False).clone()
    parts = {name: projection.empty_sketch(len(losses)) for name in projection.signs}
    sketcher.rows = 1
    for row, loss in enumerate(losses):
        for parameter in parameters:
            parameter.requires_grad_(True)
        gradients = torch.autograd.grad(loss(), parameters)
        model.requires_grad_(False)
        for name, gradient in zip(parts, gradients, strict=True):
            projection.add_whole(parts[name][row : row + 1], name, gradient.unsqueeze(0))
    exact = torch.stack(list(parts.values())).sum(0)
    difference = found - exact
    if not torch.linalg.norm(difference) <= TOLERANCE * torch.linalg.norm(exact):
        share = {name: float((difference * part).sum().abs() / part.norm()) for name, part in parts.items()}
        raise ExtractionError(
            f"The gradient of parameter {max(share, key=lambda name: share[name])!r} cannot be extracted: sketched "
            f"gradients differ from a plain backward pass by {float(difference.norm() / exact.norm()):.2g}; "
            "expected a model that uses each weight in its own module alone and computes rows separately."
        )


def _projected_entry(
    projection: Projection,
    name: str,
    shape: tuple[int, ...],
    place: tuple[int, ...],
    dense: npt.NDArray[np.int8],
) -> npt.NDArray[np.float64]:
    """Return P^T e [d] for e that is 1 at one place of a parameter and 0 elsewhere."""
    seed, width = projection.seed, projection.width
    if len(shape) == 1:
        entries, values = np.array([place[0]]), np.ones(1)
        size = shape[0]
    else:
        groups = projection.maps[name].groups
        mixing = hadamard(groups)
        block = [-(-each // groups) for each in shape]
        values = np.full(groups, groups**-0.5)
        entries = np.arange(groups)
        for side, each, width_of_block in zip(("rows", "columns"), place, block, strict=True):
            group, within = divmod(each, width_of_block)
            sign = random_signs(seed, f"{side}/{name}", groups * width_of_block)[each]
            values *= mixing[:, group] * sign
            entries = entries * width_of_block + within
        size = groups * block[0] * block[1]
    signs = random_signs(seed, f"signs/{name}", size)[entries]
    positions = (entries + int(random_bits(seed, f"offset/{name}", 1)[0]) % width) % width
    projected: npt.NDArray[np.float64] = (values * signs) @ dense[positions] / projection.dimension**0.5
    return projected


def _unit(size: int, place: int, like: Tensor) -> Tensor:
    """Return a vector that is 1 at one place, as a batch of one example and one token, [1, 1, size]."""
    vector = like.new_zeros(1, 1, size)
    vector[0, 0, place] = 1
    return vector
