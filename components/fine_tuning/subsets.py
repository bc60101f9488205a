"""Subsets of the auxiliary tasks that say how good estimates are over all sizes."""

from collections.abc import Sequence

import numpy as np

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.calibration import random_subset_count


def none_all_and_random(tasks: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Return none of the tasks, all of them, and `count` distinct random subsets between.

    Sizes of the random ones are uniform over 1 to n - 1, not half of the tasks each: a search for the best subset
    passes through all sizes, so estimates have to be right over all of them.

    Raises:
        InputError: there are not that many subsets.
    """
    possible = random_subset_count(len(tasks))
    if count > possible:
        raise InputError(
            f"{count} random subsets were asked for: expected at most {possible}, all that {len(tasks)} tasks have "
            "beside none and all."
        )
    generator = np.random.default_rng(seed)
    distinct: dict[tuple[str, ...], None] = {}
    while len(distinct) < count:
        size = int(generator.integers(1, len(tasks) + 1))
        members = np.sort(generator.permutation(len(tasks))[:size])
        if size < len(tasks):
            distinct[tuple(tasks[member] for member in members)] = None
    return [[], list(tasks), *[list(subset) for subset in distinct]]
