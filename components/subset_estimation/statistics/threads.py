"""Independent pieces of work in as many threads as there are cores, each with one BLAS thread.

NumPy's products, factorisations and elementwise functions release the interpreter, so threads share the cores.
What a piece computes does not depend on the number of threads.
"""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from gradsift.components.shared.process.cores import cores_per_process

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_threads(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Return `work(piece)` of every piece, in order."""
    with _blas_libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(cores_per_process()) as pool:
        return list(pool.map(work, pieces))


def slices(count: int, size: int) -> list[slice]:
    """Return the slices that cut `count` rows into pieces of at most `size`."""
    return [slice(start, start + size) for start in range(0, count, size)]


def scratch(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array of any content, which the thread's next call of this name takes again.

    Memory that a process has not touched before is slower to write than a matrix is to factor.
    """
    size = math.prod(shape)
    array = getattr(_own, name, None)
    if array is None or array.size < size or array.dtype != dtype:
        array = np.zeros(size, dtype)
        setattr(_own, name, array)
    return array[:size].reshape(shape)


_own = threading.local()


@cache
def _blas_libraries() -> ThreadpoolController:
    return ThreadpoolController()
