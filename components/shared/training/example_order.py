"""The order in which a training takes the rows of its tasks."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt


def example_order(
    rows: Mapping[str, int], examples: int, sampling_exponent: float, seed: int
) -> npt.NDArray[np.int64]:
    """Return the order in which the rows of all tasks are trained on.

    The order is made of passes as long as all rows together. In each pass a task with n rows gets a share
    proportional to n ** sampling_exponent (systematic sampling, so shares hold in every pass), and within its
    share its rows come in shuffled rounds: none is used twice before all were used once.

    Args:
        rows: number of train rows of each task, in the order in which the tasks' rows are numbered.
        examples: length of the order.
        sampling_exponent: 1 takes all rows equally often, 0 all tasks equally often.
        seed: decides the shuffles.

    Returns:
        Indices into the concatenation of the tasks' rows, [examples].
    """
    generator = np.random.default_rng(seed)
    counts = np.array(list(rows.values()))
    offsets = np.cumsum(counts) - counts
    weights = counts.astype(float) ** sampling_exponent
    ends = np.round(np.cumsum(weights) / weights.sum() * counts.sum(), 9)
    rounds = [_endless_shuffles(count, generator) for count in counts]
    order: list[int] = []
    while len(order) < examples:
        shares = np.diff(np.floor(ends + generator.random()), prepend=0).astype(int)
        one_pass = [
            offset + next(rows_of_task)
            for rows_of_task, offset, share in zip(rounds, offsets, shares, strict=True)
            for _ in range(share)
        ]
        order += generator.permutation(one_pass).tolist()
    return np.array(order[:examples], dtype=np.int64)


def _endless_shuffles(count: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(count).tolist()
