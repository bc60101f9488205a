"""The choice among the subsets that were truly fine-tuned on, and what is left of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.mixture import write_mixture
from gradsift.components.shared.parameters.estimation import EstimationSettings
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.choosing_cost import cost_of_all
from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.fine_tuning_runs import (
    CANDIDATES,
    FineTuningRun,
    GroupSettings,
    PlannedRun,
    finished_record,
    run_key,
)
from gradsift.components.shared.records.fine_tuning_runs import STEP as RUNS_STEP
from gradsift.components.shared.records.run_answers import FloatArray, ValidationAnswers
from gradsift.components.shared.records.selection_results import Confirmation, ConfirmedRun, Cost, Selection
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.storage import delete_below, open_storage

STEP = "choice"
"""Name that the choice is logged by."""
CHOICES = "choices"


@dataclass(frozen=True)
class Trained:
    """A finalist's run, and the losses [n_val] of the validation rows after it."""

    run: FineTuningRun
    losses: FloatArray


def confirm_selection(
    estimates: StepOutput,
    data: StepOutput,
    settings: GroupSettings,
    recipe: TrainingRecipe,
    limits: EstimationSettings,
    root_uri: str,
) -> StepOutput:
    """Return the selection with that finalist as its choice whose true validation loss is the lowest.

    Of those that are as good within one standard error of the paired difference over validation rows, the one with
    the fewest train rows is chosen.

    Args:
        estimates: the estimation step's output, which names the finalists.
        data: the prepared data.
        settings: what the finalists' runs have in common.
        recipe: their recipe.
        limits: what a choice must keep to.
        root_uri: the run root, a local path or an `s3://` address.

    Returns:
        A folder with `selection.json` and `mixture/`.

    Raises:
        NotFoundError: a finalist's run is not finished.
        InputError: no finalist keeps to the limit on the estimated gap.
    """
    selection = Selection.read(fetch(estimates, [Selection.FILE]))
    prepared = PreparedData(fetch(data))
    limits = limits.for_tasks(prepared.auxiliary_tasks)
    records = [finished_record(settings, run, root_uri) for run in finalist_runs(selection, prepared, recipe)]
    inputs = {
        "estimates": estimates.digest,
        "data": data.digest,
        "runs": [record.digest for record in records],
        "limits": limits.model_dump(),
    }

    def work(folder: Path) -> dict[str, Any]:
        confirmation = _confirm(
            selection, prepared, [read_trained(record) for record in records], limits, recipe
        )
        confirmed = selection.confirmed(confirmation, _reason(selection, confirmation))
        confirmed.write(folder)
        write_mixture(folder, data, confirmed.selected)
        return _metadata(confirmed, confirmation)

    return produce(root_uri, RUNS_STEP, inputs, work, CHOICES)


def finalist_runs(
    selection: Selection, data: PreparedData, recipe: TrainingRecipe, in_round: str | None = None
) -> list[PlannedRun]:
    """Return the runs of the finalists, in the selection's order; where a round is named, those of this one."""
    subsets = [each.subset for each in selection.finalists if in_round in (None, each.method)]
    return [PlannedRun.of(data, subset, recipe) for subset in subsets]


def delete_candidates(settings: GroupSettings, runs: Sequence[PlannedRun], root_uri: str) -> None:
    """Delete the weights that runs kept until the choice; their records stay."""
    storage = open_storage(join_uri(root_uri, CANDIDATES))
    for run in runs:
        delete_below(storage, run_key(settings, run))


def read_trained(record: StepOutput) -> Trained:
    """Return a run by its record."""
    folder = fetch(record, [FineTuningRun.FILE, ValidationAnswers.FILE])
    return Trained(FineTuningRun.read(folder), ValidationAnswers.read(folder)[0].loss)


def _confirm(
    selection: Selection,
    data: PreparedData,
    trained: Sequence[Trained],
    limits: EstimationSettings,
    recipe: TrainingRecipe,
) -> Confirmation:
    target_rows = data.task(data.target).rows["train"]
    permitted = [
        limits.permits(each.run.subset, each.run.train_rows - target_rows) and selection.permits_gap(finalist)
        for each, finalist in zip(trained, selection.finalists, strict=True)
    ]
    if selection.gap_limit is not None and not any(permitted):
        raise InputError(
            f"Parameter fairness_limit_estimate is {selection.gap_limit}: expected a larger one, or more "
            "confirm_runs, as no subset that was fine-tuned on has so small an estimated gap."
        )
    chosen = _choose([each for each, may_be in zip(trained, permitted, strict=True) if may_be])
    runs = [
        ConfirmedRun(
            subset=each.run.subset,
            estimated_loss=finalist.estimated_loss,
            true_loss=each.run.val_loss,
            excess=Interval.normal(*paired_difference(each, chosen)),
            train_rows=each.run.train_rows,
            permitted=may_be,
            chosen=each is chosen,
        )
        for each, finalist, may_be in zip(trained, selection.finalists, permitted, strict=True)
    ]
    done = [each.run for each in trained]
    steps, seconds = sum(run.optimizer_steps for run in done), sum(run.seconds for run in done)
    cost = Cost(
        runs=len(trained),
        optimizer_steps=steps,
        rows=steps * recipe.batch_size,
        tokens=sum(run.tokens for run in done),
        padding=sum(run.padding for run in done),
        seconds=seconds,
        seconds_of_all=cost_of_all(seconds, len(trained), selection.subsets_estimated),
    )
    return Confirmation(runs=sorted(runs, key=lambda run: run.true_loss), cost=cost)


def _choose(trained: Sequence[Trained]) -> Trained:
    best = min(trained, key=lambda each: each.run.val_loss)
    as_good = [
        each for each in trained if paired_difference(each, best)[0] <= paired_difference(each, best)[1]
    ]
    return min(as_good, key=lambda each: (each.run.train_rows, each.run.val_loss))


def paired_difference(one: Trained, other: Trained) -> tuple[float, float]:
    """Return the mean over validation rows of the difference of two runs' losses, and its standard error."""
    return mean_and_error(one.losses.astype(np.float64) - other.losses)


def mean_and_error(values: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return the mean of values [n] and its standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean(dtype=np.float64)), float(error)


def _reason(selection: Selection, confirmation: Confirmation) -> str:
    chosen, lowest = confirmation.chosen, next(run for run in confirmation.runs if run.permitted)
    size = f"{len(chosen.subset)} of {len(selection.auxiliary_tasks)} auxiliary tasks"
    found = f"Of {len(confirmation.runs)} subsets that were fine-tuned on, one with {size} was chosen: "
    if chosen is lowest:
        found += f"its true validation loss, {chosen.true_loss:.4f}, is the lowest."
    else:
        found += (
            f"its true validation loss, {chosen.true_loss:.4f}, is within one standard error of the lowest, "
            f"{lowest.true_loss:.4f}, and it has fewer train rows."
        )
    if chosen.subset == selection.selected:
        return f"{found} The estimates had chosen it too. {selection.reason}"
    return f"{found} The estimates alone had chosen another one. {selection.reason}"


def _metadata(selection: Selection, confirmation: Confirmation) -> dict[str, Any]:
    chosen = confirmation.chosen
    return {
        "target": selection.target,
        "selected": selection.selected,
        "true_loss": chosen.true_loss,
        "residual": chosen.residual,
        **confirmation.cost.model_dump(),
    }
