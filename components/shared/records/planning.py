"""Planning of fine-tuning runs: which subsets, with which seeds, divided into groups that one pod each trains."""

from collections.abc import Sequence

import numpy as np

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.calibration import random_subset_count
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import GroupSettings, PlannedRun, RunGroup, Weights
from gradsift.components.shared.storage.addresses import is_remote

CALIBRATION, FINALISTS, COMPARISONS = "calibration", "finalists", "comparisons"
"""What runs are for: the first and the second round before the choice, and what the choice is compared by."""


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


def runs_of(
    data: PreparedData, subsets: Sequence[Sequence[str]], recipe: TrainingRecipe, seeds: int
) -> list[PlannedRun]:
    """Return the runs on every subset with seeds counted up from the recipe's; equal runs are one."""
    recipes = [recipe.model_copy(update={"seed": recipe.seed + offset}) for offset in range(seeds)]
    runs = [PlannedRun.of(data, subset, seeded) for subset in subsets for seeded in recipes]
    return [run for position, run in enumerate(runs) if run not in runs[:position]]


def group_runs(
    purpose: str,
    settings: GroupSettings,
    runs: Sequence[PlannedRun],
    root_uri: str,
    parallel_runs: int,
    weights: Weights = "",
) -> list[RunGroup]:
    """Return the runs in as many groups as may be trained at the same time.

    A local run root means one machine, where more groups would only start more processes one after the other.

    Args:
        purpose: what the runs are for (see `RunGroup`).
        settings: what the runs have in common.
        runs: the runs.
        root_uri: the run root, a local path or an `s3://` address.
        parallel_runs: the largest number of groups.
        weights: where the runs' weights are kept (see `RunGroup`).
    """
    count = min(parallel_runs, len(runs)) if is_remote(root_uri) else 1
    return [
        RunGroup(
            purpose=purpose, number=number, settings=settings, runs=list(runs[number::count]), weights=weights
        )
        for number in range(count)
    ]
