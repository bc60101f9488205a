"""The order in which a training takes the rows of its tasks."""

from collections.abc import Mapping

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
    rounds = [_Rounds(count, generator) for count in counts]
    order = np.empty(examples, dtype=np.int64)
    done = 0
    while done < examples:
        shares = np.diff(np.floor(ends + generator.random()), prepend=0).astype(int)
        one_pass = np.concatenate(
            [
                offset + rows_of_task.take(share)
                for rows_of_task, offset, share in zip(rounds, offsets, shares, strict=True)
            ]
        )
        kept = generator.permutation(one_pass)[: examples - done]
        order[done : done + len(kept)] = kept
        done += len(kept)
    return order


class _Rounds:
    """The rows of one task in shuffled rounds, each row once in every round."""

    def __init__(self, count: int, generator: np.random.Generator) -> None:
        self._count = count
        self._generator = generator
        self._waiting = np.empty(0, dtype=np.int64)

    def take(self, rows: int) -> npt.NDArray[np.int64]:
        """Return the next rows; a round is shuffled when its first row is taken."""
        while len(self._waiting) < rows:
            self._waiting = np.concatenate([self._waiting, self._generator.permutation(self._count)])
        taken, self._waiting = self._waiting[:rows], self._waiting[rows:]
        return taken
