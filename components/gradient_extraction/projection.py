"""The random projection P^T g from all parameters to d numbers, applied parameter by parameter.

There are two ways, both unbiased in inner products and independent between parameters; results add up.

Fold: a parameter's flattened gradient is multiplied by random signs, and entry i is added at position
(i + offset) modulo m. The folded gradients of all parameters add up to one vector of m numbers, which a dense
random sign matrix [m, d] / sqrt(d) maps to d numbers. It has the variance of a count sketch of width m and then
of a Johnson-Lindenstrauss projection of width d.

Khatri-Rao rows: the gradient of a linear layer's weight is a sum over tokens t of outer products g_t a_t^T
(output gradient times input). With random signs U [outputs, d] and V [inputs, d], number j is
sum_t (g_t . u_j)(a_t . v_j) / sqrt(d), the product of the gradient with the rank-1 sign matrix u_j v_j^T. The
gradient itself is never formed.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gradsift.components.gradient_extraction.counter_hash import random_bits, random_signs


class Projection:
    """Signs and offsets for every parameter, and the dense matrix."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        linear: Mapping[str, tuple[int, int]],
        dimension: int,
        width: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Draw the projection.

        Args:
            sizes: number of entries of each parameter, by name.
            linear: outputs and inputs of those that are projected by Khatri-Rao rows; the others are folded.
            dimension: d.
            width: m.
            seed: with a parameter's name it decides that parameter's signs and offset.
            device: where gradients are.
        """
        self.width = width
        self.dimension = dimension
        self._seed = seed
        self.signs = {
            name: torch.from_numpy(random_signs(seed, f"signs/{name}", size)).to(device)
            for name, size in sizes.items()
            if name not in linear
        }
        self.offsets = {name: int(random_bits(seed, f"offset/{name}", 1)[0]) % width for name in sizes}
        self.factors = {
            name: (
                self._matrix(f"outputs/{name}", outputs, device),
                self._matrix(f"inputs/{name}", inputs, device),
            )
            for name, (outputs, inputs) in linear.items()
        }
        dense = random_signs(seed, "dense", width * dimension).reshape(width, dimension)
        self.dense = torch.from_numpy(dense.astype(np.float32) / np.float32(dimension**0.5)).to(device)

    def add(self, sketch: Tensor, name: str, gradient: Tensor) -> None:
        """Fold per-example gradients of one parameter into `sketch`; `gradient` is overwritten.

        Args:
            sketch: [n, m], float32.
            name: the parameter.
            gradient: [n, size], the flattened gradient of each example.
        """
        gradient.mul_(self.signs[name])
        size = gradient.shape[1]
        whole = size - size % self.width
        if whole:
            blocks = gradient[:, :whole].unflatten(1, (-1, self.width))
            self._add_rotated(sketch, blocks.sum(1, dtype=torch.float32), self.offsets[name])
        if size > whole:
            self._add_rotated(sketch, gradient[:, whole:].float(), self.offsets[name])

    def add_rows(self, sketch: Tensor, name: str, rows: Tensor, gradient: Tensor) -> None:
        """Fold a gradient that is zero but for some rows of a matrix parameter (an embedding table).

        Args:
            sketch: [n, m], float32.
            name: the parameter, of shape [vocabulary, h].
            rows: [n, T], the row that each gradient vector belongs to; rows may repeat.
            gradient: [n, T, h].
        """
        hidden = gradient.shape[-1]
        entry = rows.unsqueeze(-1) * hidden + torch.arange(hidden, device=rows.device)
        signed = gradient.float() * self.signs[name][entry]
        position = (entry + self.offsets[name]) % self.width
        sketch.scatter_add_(1, position.flatten(1), signed.flatten(1))

    def khatri_rao(self, name: str, gradient: Tensor, mapped_input: Tensor) -> Tensor:
        """Return the projected gradient [n, d] of a linear layer's weight.

        Args:
            name: the parameter.
            gradient: gradient of the layer's output, [n, T, outputs].
            mapped_input: `map_input` of the layer's input, [n, T, d].
        """
        mapped = gradient @ self.factors[name][0].to(gradient.dtype)
        return torch.mul(mapped, mapped_input).sum(1, dtype=torch.float32) / self.dimension**0.5

    def map_input(self, name: str, entry: Tensor) -> Tensor:
        """Return a linear layer's input times its sign matrix V, [n, T, d]."""
        return entry @ self.factors[name][1].to(entry.dtype)

    def finish(self, sketch: Tensor) -> Tensor:
        """Map sketches [n, m] to projected gradients [n, d]."""
        return sketch @ self.dense

    def _matrix(self, name: str, rows: int, device: torch.device) -> Tensor:
        signs = random_signs(self._seed, name, rows * self.dimension).reshape(rows, self.dimension)
        return torch.from_numpy(signs.astype(np.float32)).to(device)

    def _add_rotated(self, sketch: Tensor, folded: Tensor, offset: int) -> None:
        fits = min(folded.shape[1], self.width - offset)
        sketch[:, offset : offset + fits] += folded[:, :fits]
        sketch[:, : folded.shape[1] - fits] += folded[:, fits:]
