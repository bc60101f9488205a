"""Runs of subsets and seeds, divided into groups, each of which one pod trains."""

from collections.abc import Sequence

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import GroupSettings, PlannedRun, RunGroup
from gradsift.components.shared.storage.addresses import is_remote


def runs_of(
    data: PreparedData, subsets: Sequence[Sequence[str]], recipe: TrainingRecipe, seeds: int
) -> list[PlannedRun]:
    """Return the runs on every subset with seeds counted up from the recipe's; equal runs are one."""
    recipes = [recipe.model_copy(update={"seed": recipe.seed + offset}) for offset in range(seeds)]
    runs = [PlannedRun.of(data, subset, seeded) for subset in subsets for seeded in recipes]
    return [run for position, run in enumerate(runs) if run not in runs[:position]]


def group_runs(
    purpose: str, settings: GroupSettings, runs: Sequence[PlannedRun], root_uri: str, parallel_runs: int
) -> list[RunGroup]:
    """Return the runs in as many groups as may be trained at the same time.

    A local run root means one machine, where more groups would only start more processes one after the other.

    Args:
        purpose: what the runs are for (see `RunGroup`).
        settings: what the runs have in common.
        runs: the runs.
        root_uri: the run root, a local path or an `s3://` address.
        parallel_runs: the largest number of groups.
    """
    count = min(parallel_runs, len(runs)) if is_remote(root_uri) else 1
    return [
        RunGroup(purpose=purpose, number=number, settings=settings, runs=list(runs[number::count]))
        for number in range(count)
    ]
