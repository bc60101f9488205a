"""The random projection P^T g from all parameters to d numbers, applied parameter by parameter.

Every parameter's gradient is added to one vector of m numbers an example, and a dense random sign matrix
[m, d] / sqrt(d) maps that to d numbers. Each parameter has signs of its own, so that the inner product of two
projected gradients is unbiased, over all parameters together.

Fold: a vector is multiplied by random signs, and entry i is added at position (i + offset) modulo m.

Mixed blocks: the gradient of a matrix parameter is a sum over tokens t of outer products r_t c_t^T, and is
never formed. Rows and columns are cut into B groups each. The groups of r_t are mixed with one another by a
Hadamard matrix after random signs, which spreads its energy evenly over them, and so are the groups of c_t. Of
the outer product of the mixed vectors only the B diagonal blocks are computed, size / B numbers, which are
then folded. This is the TensorSRHT (Ahle et al.: "Oblivious sketching of high-degree polynomial kernels", SODA
2020, arXiv 1909.01410) with its samples taken in blocks. Even for parallel gradients of rank 1, its worst case,
the variance of an inner product is 4 / (size / B) relative to its square. B is chosen so that size / B is at
least m, and is 1 (the whole gradient, folded) for small matrices.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor
from torch.nn import functional

from gradsift.components.shared.gradients.counter_hash import random_bits, random_signs

MAX_GROUPS = 16
NUMBER_BATCH = {"cpu": 2**21, "cuda": 2**26}
"""Intermediate numbers that are held at a time: a CPU wants them in its cache, a GPU wants large products."""


@dataclass(frozen=True)
class MatrixMap:
    """How a matrix parameter's gradient is mixed before it is folded.

    Attributes:
        mixing: [B, B], a Hadamard matrix.
        row_signs: [B, rows / B], rounded up.
        column_signs: [B, columns / B], rounded up, divided by sqrt(B).
    """

    mixing: Tensor
    row_signs: Tensor
    column_signs: Tensor

    @property
    def groups(self) -> int:
        """B."""
        return len(self.mixing)

    @property
    def size(self) -> int:
        """Number of entries of the B diagonal blocks together."""
        return self.groups * self.row_signs.shape[1] * self.column_signs.shape[1]


class Scratch:
    """Memory that is used again and again, for what is large and short-lived: fresh memory costs page faults."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor of any content; what was taken under this name before must not be used any more."""
        count = math.prod(shape)
        kept = self._memory.get((name, dtype))
        if kept is None or kept.numel() < count:
            kept = self._memory[name, dtype] = torch.empty(count, dtype=dtype, device=self._device)
        return kept[:count].view(shape)


class Projection:
    """Signs, offsets and mixing of every parameter, and the dense matrix.

    Attributes:
        width: m, a prime, so that entries at regular distances do not fold onto one another.
        dimension: d.
        seed: decides all that is random, with the parameters' names.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dimension: int,
        width: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Draw the projection.

        Args:
            shapes: shape of each parameter, by name: a vector's or a matrix's.
            dimension: d.
            width: most numbers of the sketch: m is the largest prime that is not above it.
            seed: with a parameter's name it decides all that is random about that parameter.
            device: where gradients are.
        """
        self.width = width = _prime(width)
        self.dimension = dimension
        self.seed = seed
        self._device = device
        self._scratch = Scratch(device)
        self.maps = {
            name: self._matrix_map(name, *shape) for name, shape in shapes.items() if len(shape) == 2
        }
        folded = {name: self.maps[name].size if name in self.maps else shapes[name][0] for name in shapes}
        self.signs = {name: self._signs(f"signs/{name}", size) for name, size in folded.items()}
        self.offsets = {name: int(random_bits(seed, f"offset/{name}", 1)[0]) % width for name in shapes}
        self.dense = self._signs("dense", width * dimension).view(width, dimension)

    def empty_sketch(self, rows: int) -> Tensor:
        """Return a sketch to add gradients to: zeros, [rows, m]."""
        return torch.zeros(rows, self.width, device=self._device)

    def finish(self, sketch: Tensor) -> Tensor:
        """Map sketches [n, m] to projected gradients [n, d]."""
        return sketch @ (self.dense.float() / self.dimension**0.5)

    def add_vector(self, sketch: Tensor, name: str, gradient: Tensor) -> None:
        """Add per-example gradients [n, size] of a vector parameter to `sketch` [n, m]; they are overwritten."""
        gradient.mul_(self.signs[name])
        size = gradient.shape[1]
        whole = size - size % self.width
        if whole:
            turns = gradient[:, :whole].unflatten(1, (-1, self.width))
            folded = self._scratch.take("folded", (len(gradient), self.width), torch.float32)
            torch.sum(turns, 1, dtype=torch.float32, out=folded)
            self._add_rotated(sketch, folded, self.offsets[name])
        if size > whole:
            self._add_rotated(sketch, gradient[:, whole:], self.offsets[name])

    def add_outer(self, sketch: Tensor, name: str, rows: Tensor, columns: Tensor) -> None:
        """Add the gradients sum_t r_t c_t^T of a matrix parameter.

        Args:
            sketch: [n, m].
            name: the parameter, of shape [R, C].
            rows: r, [n, T, R].
            columns: c, [n, T, C].
        """
        own = self.maps[name]
        tokens, features = rows.shape[1], rows.shape[2] + columns.shape[2]
        for part in self._parts(len(rows), 2 * tokens * features + own.size):
            mixed_rows = self._mix("rows", rows[part], own.row_signs, own.mixing)
            mixed_columns = self._mix("columns", columns[part], own.column_signs, own.mixing)
            size = (len(mixed_rows), mixed_rows.shape[2], mixed_columns.shape[2])
            blocks = self._scratch.take("blocks", size, mixed_rows.dtype)
            torch.bmm(mixed_rows.mT, mixed_columns, out=blocks)
            self.add_vector(sketch[part], name, blocks.view(-1, own.size))

    def add_rows(self, sketch: Tensor, name: str, index: Tensor, columns: Tensor) -> None:
        """Add gradients that are zero except for some rows of a matrix parameter (an embedding table).

        The same as `add_outer` with rows that are 1 at one index and 0 elsewhere, but in time T C.

        Args:
            sketch: [n, m].
            name: the parameter, of shape [R, C].
            index: [n, T], the row that each gradient vector belongs to; rows may repeat.
            columns: [n, T, C], the gradient vectors.
        """
        own = self.maps[name]
        block_rows, block_columns = own.row_signs.shape[1], own.column_signs.shape[1]
        for part in self._parts(len(index), 4 * columns[0].numel()):
            group, row = index[part] // block_rows, index[part] % block_rows
            of_row = own.mixing.T[group] * own.row_signs[group, row].unsqueeze(-1)
            mixed = self._mix("columns", columns[part], own.column_signs, own.mixing)
            values = mixed.view(*of_row.mT.shape, -1) * of_row.mT.unsqueeze(-1)
            start = torch.arange(own.groups, device=index.device)[:, None] * block_rows + row.unsqueeze(1)
            entry = start.unsqueeze(-1) * block_columns + torch.arange(block_columns, device=index.device)
            signed = values.float() * self.signs[name][entry]
            position = (entry + self.offsets[name]) % self.width
            sketch[part].scatter_add_(1, position.flatten(1), signed.flatten(1))

    def add_whole(self, sketch: Tensor, name: str, gradient: Tensor) -> None:
        """Add gradients [n, *shape] that are at hand as a whole: the definition that the ways above speed up."""
        if name in self.maps:
            own = self.maps[name]
            (_, block_rows), (_, block_columns) = own.row_signs.shape, own.column_signs.shape
            missing = (
                own.column_signs.numel() - gradient.shape[2],
                own.row_signs.numel() - gradient.shape[1],
            )
            padded = functional.pad(gradient.float(), (0, missing[0], 0, missing[1]))
            cut = padded.view(-1, own.groups, block_rows, own.groups, block_columns)
            signed = cut * own.row_signs[:, :, None, None] * own.column_signs
            gradient = torch.einsum("bp,npkql,bq->nbkl", own.mixing, signed, own.mixing).flatten(1)
        self.add_vector(sketch, name, gradient.clone())

    def _matrix_map(self, name: str, rows: int, columns: int) -> MatrixMap:
        groups = _groups(rows, columns, self.width)
        row_signs = self._signs(f"rows/{name}", math.ceil(rows / groups) * groups)
        column_signs = self._signs(f"columns/{name}", math.ceil(columns / groups) * groups)
        return MatrixMap(
            torch.from_numpy(hadamard(groups).astype(np.float32)).to(self._device),
            row_signs.view(groups, -1).float(),
            column_signs.view(groups, -1).float() / groups**0.5,
        )

    def _mix(self, side: str, vectors: Tensor, signs: Tensor, mixing: Tensor) -> Tensor:
        """Return vectors [n, T, f] times signs, their groups mixed: [n B, T, f / B].

        On a GPU in the vectors' own precision, on a CPU in float32.
        """
        rows, tokens, features = vectors.shape
        groups, width = signs.shape
        dtype = vectors.dtype if vectors.is_cuda else torch.float32
        if missing := signs.numel() - features:
            vectors = functional.pad(vectors, (0, missing))
        signed = self._scratch.take(f"signed {side}", (rows, groups, tokens, width), dtype)
        cut = vectors.reshape(rows, tokens, groups, width)
        torch.mul(cut, signs.to(dtype), out=signed.transpose(1, 2))
        if groups == 1:
            return signed.squeeze(1)
        mixed = self._scratch.take(f"mixed {side}", (rows, groups, tokens * width), dtype)
        torch.bmm(mixing.to(dtype).expand(rows, -1, -1), signed.view(mixed.shape), out=mixed)
        return mixed.view(-1, tokens, width)

    def _parts(self, rows: int, numbers_a_row: int) -> Iterator[slice]:
        """Cut a batch so that no more than `NUMBER_BATCH` intermediate numbers are held."""
        step = max(1, NUMBER_BATCH[self._device.type] // numbers_a_row)
        return (slice(start, start + step) for start in range(0, rows, step))

    def _signs(self, name: str, count: int) -> Tensor:
        return torch.from_numpy(random_signs(self.seed, name, count)).to(self._device)

    def _add_rotated(self, sketch: Tensor, folded: Tensor, offset: int) -> None:
        fits = min(folded.shape[1], self.width - offset)
        sketch[:, offset : offset + fits] += folded[:, :fits]
        sketch[:, : folded.shape[1] - fits] += folded[:, fits:]


def _prime(most: int) -> int:
    candidates = range(most, 1, -1)
    return next((m for m in candidates if all(m % factor for factor in range(2, math.isqrt(m) + 1))), 1)


def _groups(rows: int, columns: int, width: int) -> int:
    """Return B: the largest power of two that leaves blocks of at least `width` numbers and one row."""
    most = min(MAX_GROUPS, rows, columns, rows * columns // width)
    return 1 << (max(most, 1).bit_length() - 1)
