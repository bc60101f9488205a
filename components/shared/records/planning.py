"""Planning of fine-tuning runs: which subsets, with which seeds, divided into groups that one pod each trains."""

from collections.abc import Callable, Sequence

import numpy as np

from gradsift.components.shared.data.prepared_data import TaskIndex
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.calibration import CalibrationConfig, random_subset_count
from gradsift.components.shared.parameters.confirmation import ConfirmationConfig
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.training import FineTuningLayers, TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    GroupSettings,
    Layers,
    PlannedRun,
    RunGroup,
    Weights,
)
from gradsift.components.shared.storage.addresses import is_remote

CALIBRATION, FINALISTS, COMPARISONS = "calibration", "finalists", "comparisons"
"""What runs are for: the first and the second round before the choice, and what the choice is compared by."""
SCOPE_SWEEP = "scope_sweep"
"""What runs are for between them: which layers are trained on the chosen sources."""

Promising = Callable[[Sequence[Sequence[str]], int], list[list[str]]]
"""Names at most so many subsets that promise most, given those that are trained at the same time or before."""


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
    data: TaskIndex, subsets: Sequence[Sequence[str]], recipe: TrainingRecipe, seeds: int
) -> list[PlannedRun]:
    """Return the runs on every subset with seeds counted up from the recipe's; equal runs are one."""
    recipes = [recipe.model_copy(update={"seed": recipe.seed + offset}) for offset in range(seeds)]
    runs = [PlannedRun.of(data, subset, seeded) for subset in subsets for seeded in recipes]
    return [run for position, run in enumerate(runs) if run not in runs[:position]]


def first_round(
    data: TaskIndex,
    recipe: TrainingRecipe,
    calibration: CalibrationConfig,
    confirmation: ConfirmationConfig,
    excluded: Sequence[str],
    promising: Promising,
) -> list[PlannedRun]:
    """Return the runs on none, all, random subsets and those that promise most; none where none are asked for.

    Args:
        data: the tasks.
        recipe: how the runs are trained.
        calibration: how many random subsets, and how many seeds of them.
        confirmation: how many subsets are taken by their estimates.
        excluded: auxiliary tasks that may not be chosen.
        promising: names these subsets.

    Raises:
        InputError: there are not that many random subsets.
    """
    runs: list[PlannedRun] = []
    if calibration.runs:
        subsets = none_all_and_random(data.auxiliary_tasks, calibration.runs, calibration.seed)
        runs = runs_of(data, subsets, recipe, calibration.seeds)
    if confirmation.runs:
        everything = [task for task in data.auxiliary_tasks if task not in excluded]
        distinct = dict.fromkeys(map(tuple, [[], everything, *(run.subset for run in runs)]))
        first = [list(subset) for subset in distinct]
        chosen = promising(first, confirmation.rounds[0])
        runs += [run for run in runs_of(data, [*first, *chosen], recipe, seeds=1) if run not in runs]
    return runs


def sweep_runs(settings: FineTuningLayers, recipe: TrainingRecipe, run: PlannedRun) -> list[PlannedRun]:
    """Return a run with every scope at every rate; one alone where there is nothing to choose.

    Args:
        settings: the scopes and rates.
        recipe: has the rate where none is named.
        run: the subset, seed and steps that they have in common.
    """
    rates = settings.rates or [recipe.learning_rate]
    return [
        run.model_copy(update={"layers": Layers(scope=scope, learning_rate=rate)})
        for scope in settings.scopes
        for rate in rates
    ]


def comparison_runs(
    data: TaskIndex,
    subsets: Sequence[Sequence[str]],
    recipe: TrainingRecipe,
    config: ComparisonConfig,
    untrained: bool,
    all_layers: Layers | None = None,
    limited: bool = False,
) -> list[PlannedRun]:
    """Return the runs on every subset that is compared.

    Args:
        data: the tasks.
        subsets: the subsets, the chosen one first.
        recipe: how the runs are trained.
        config: how many seeds.
        untrained: whether the model that they start from is compared too.
        all_layers: how all layers are trained on the chosen subset, where the recipe trains a part of them.
        limited: whether the runs keep to a limit, so that those on the chosen subset are compared with runs that
            keep to none.
    """
    more = (all_layers is not None) + limited
    seeds = config.seeds_for(len({frozenset(subset) for subset in subsets}) + more)
    runs, chosen = runs_of(data, subsets, recipe, seeds), runs_of(data, subsets[:1], recipe, seeds)
    if all_layers is not None:
        runs += [run.model_copy(update={"layers": all_layers}) for run in chosen]
    if limited:
        runs += [run.model_copy(update={"unlimited": True}) for run in chosen]
    return [*runs, PlannedRun(subset=[], seed=0, steps=0)] if untrained else runs


def group_count(runs: int, root_uri: str, parallel_runs: int) -> int:
    """Return into how many groups runs are divided, each trained in one launch.

    A local run root means one machine, where more groups would only start more processes one after the other.

    Args:
        runs: how many runs.
        root_uri: the run root, a local path or an `s3://` address.
        parallel_runs: the largest number of groups.
    """
    return min(parallel_runs if is_remote(root_uri) else 1, runs)


def group_runs(
    purpose: str,
    settings: GroupSettings,
    runs: Sequence[PlannedRun],
    root_uri: str,
    parallel_runs: int,
    weights: Weights = "",
) -> list[RunGroup]:
    """Return the runs in as many groups as may be trained at the same time (see `group_count`).

    Args:
        purpose: what the runs are for (see `RunGroup`).
        settings: what the runs have in common.
        runs: the runs.
        root_uri: the run root, a local path or an `s3://` address.
        parallel_runs: the largest number of groups.
        weights: where the runs' weights are kept (see `RunGroup`).
    """
    count = group_count(len(runs), root_uri, parallel_runs)
    return [
        RunGroup(
            purpose=purpose, number=number, settings=settings, runs=list(runs[number::count]), weights=weights
        )
        for number in range(count)
    ]
