"""The linear systems (H_S + R_S I) x = g of many subsets: sums of the tasks' curvatures, factors, solutions.

Curvatures are stored in float32; sums, factors and solutions are in float64. Matrices are symmetric, and of
the sums only the part on and above the diagonal is computed.
"""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import get_blas_funcs

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.linear_model.margins import FloatArray, StoredArray
from gradsift.components.subset_estimation.statistics.threads import in_threads, scratch, slices

SUBSET_BATCH = 64
SUM_BATCH = 2**23
FACTOR_BATCH = 2**19
BAND = 2**19
"""Most subsets of one thread, and numbers in its arrays: sums, factors, and tasks' curvatures in float64."""
PRODUCT_SPEED = 16
"""How many times faster than a plain sum a matrix product adds one more curvature to a subset's."""


class DampedSystems:
    """The systems of a list of m subsets.

    Subsets that differ in few tasks, such as the neighbours of one subset in a search, are summed by their
    differences from the tasks that most of them hold; others by a matrix product over all of their tasks.
    """

    def __init__(self, memberships: FloatArray, curvature: StoredArray, ridges: FloatArray) -> None:
        """Take weights [m, n + 1] of the tasks' curvatures [n + 1, d, d], and ridges [m]."""
        self.memberships = memberships
        self.curvature = curvature
        self.ridges = ridges
        common = np.where(memberships.mean(axis=0) > 0.5, 1.0, 0.0)
        self._changes = memberships - common
        self.common: FloatArray | None = None
        operations = PRODUCT_SPEED * np.count_nonzero(self._changes) + np.count_nonzero(common)
        if operations < len(memberships) * np.count_nonzero(memberships.any(axis=0)):
            self.common = np.zeros(curvature.shape[1:])
            _products(common[None], curvature, self.common[None])

    def solutions(self, right: FloatArray) -> FloatArray:
        """Return the solutions [m, d] for right sides [m, d].

        Raises:
            InputError: a ridge is below the rounding of the curvature.
        """
        solutions = np.empty_like(right)

        def solve_piece(piece: slice) -> None:
            for group, factors in self._factored(piece):
                solutions[group] = solve(factors, right[group])

        in_threads(solve_piece, self._pieces())
        return solutions

    def factors(self) -> StoredArray:
        """Return lower Cholesky factors [m, d, d] in the precision of the curvature, in a scratch array.

        Raises:
            InputError: a ridge is below the rounding of the curvature.
        """
        shape = (len(self.ridges), *self.curvature.shape[1:])
        factors = scratch("factors", shape, self.curvature.dtype)
        for piece in self._pieces():
            for group, some in self._factored(piece):
                factors[group] = some
        return factors

    def _pieces(self) -> list[slice]:
        at_once = min(SUBSET_BATCH, SUM_BATCH // self.curvature[0].size)
        return slices(len(self.ridges), max(1, at_once))

    def _factored(self, piece: slice) -> Iterator[tuple[slice, StoredArray]]:
        """Yield the factors of a piece of the subsets group by group, as slices of all with their factors."""
        systems = self._sums(piece)
        diagonal = np.arange(systems.shape[1])
        systems[:, diagonal, diagonal] += self.ridges[piece, None]
        for group in slices(len(systems), max(1, FACTOR_BATCH // systems[0].size)):
            try:
                factors = np.linalg.cholesky(systems[group].swapaxes(1, 2))
            except np.linalg.LinAlgError as error:
                raise InputError(
                    "The ridge is below the rounding of the curvature in float32: choose a larger one."
                ) from error
            yield slice(piece.start + group.start, piece.start + group.start + len(factors)), factors

    def _sums(self, piece: slice) -> FloatArray:
        """Return the sums of a piece of the subsets, in the thread's scratch array."""
        sums = scratch("sums", (len(self.ridges[piece]), *self.curvature.shape[1:]), np.float64)
        if self.common is None:
            _products(self.memberships[piece], self.curvature, sums)
            return sums
        sums[:] = self.common
        changes = self._changes[piece]
        for subset, task in np.argwhere(changes):
            sums[subset] += float(changes[subset, task]) * self.curvature[task]
        return sums


def solve(factors: StoredArray, right: FloatArray) -> FloatArray:
    """Return the solutions [k, d] of L L^T x = g for lower factors L [k, d, d] and right sides g [k, d]."""
    trsv = get_blas_funcs("trsv", dtype=factors.dtype)
    pairs = zip(factors, right, strict=True)
    return np.stack([trsv(factor.T, trsv(factor.T, side, trans=1)) for factor, side in pairs])


def _products(memberships: FloatArray, curvature: StoredArray, sums: FloatArray) -> None:
    """Write sums [k, d, d] of curvatures; what lies far below the diagonal is left as it was."""
    used = memberships.any(axis=0)
    tasks = slice(None) if used.all() else np.flatnonzero(used)
    weights = memberships[:, tasks]
    for rows in slices(curvature.shape[1], max(1, BAND // curvature[:, 0].size)):
        band = curvature[tasks, rows, rows.start :].astype(np.float64)
        _, height, width = band.shape
        product = weights @ band.reshape(len(band), height * width)
        sums[:, rows, rows.start :] = product.reshape(len(sums), height, width)
