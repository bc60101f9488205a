"""The order in which a training takes the rows of its tasks."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt


def shares_by_size(rows: Mapping[str, int], exponent: float) -> dict[str, float]:
    """Return for each task with n rows the share n ** exponent of what a training draws, up to a common factor.

    Args:
        rows: number of train rows of each task.
        exponent: 1 takes all rows equally often, 0 all tasks equally often.
    """
    counts = np.array(list(rows.values()), dtype=float)
    return dict(zip(rows, (counts**exponent).tolist(), strict=True))


def example_order(
    rows: Mapping[str, int], shares: Mapping[str, float], examples: int, seed: int | Sequence[int]
) -> npt.NDArray[np.int64]:
    """Return the order in which the rows of all tasks are trained on.

    The order is made of passes as long as all rows together. In each pass a task gets its share (systematic
    sampling, so shares hold in every pass), and within its share its rows come in shuffled rounds: none is used
    twice before all were used once.

    Args:
        rows: number of train rows of each task, in the order in which the tasks' rows are numbered.
        shares: each task's share of every pass, up to a common factor; a task with share 0 is left out.
        examples: length of the order.
        seed: decides the shuffles.

    Returns:
        Indices into the concatenation of the tasks' rows, [examples].
    """
    generator = np.random.default_rng(seed)
    counts = np.array(list(rows.values()))
    offsets = np.cumsum(counts) - counts
    weights = np.array([shares[task] for task in rows])
    ends = np.round(np.cumsum(weights) / weights.sum() * counts.sum(), 9)
    rounds = [_Rounds(count, generator) for count in counts]
    order = np.empty(examples, dtype=np.int64)
    done = 0
    while done < examples:
        drawn = np.diff(np.floor(ends + generator.random()), prepend=0).astype(int)
        one_pass = np.concatenate(
            [
                offset + rows_of_task.take(count)
                for rows_of_task, offset, count in zip(rounds, offsets, drawn, strict=True)
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
