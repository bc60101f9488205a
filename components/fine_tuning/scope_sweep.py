"""Which layers are trained: each scope is tried at each rate on the chosen sources, and validation rows decide."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradsift.components.fine_tuning.choice import Trained, mean_and_error, paired_difference, read_trained
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.fine_tuning_runs import STEP as RUNS_STEP
from gradsift.components.shared.records.fine_tuning_runs import (
    GroupSettings,
    Layers,
    PlannedRun,
    finished_record,
)
from gradsift.components.shared.records.scope_sweep import ScopeSweep, TriedLayers
from gradsift.components.shared.training.job import RESULT

SWEEPS = "scope_sweeps"


@dataclass(frozen=True)
class Candidate:
    """A run that was tried, and how many parameters it trained, where its record says so."""

    layers: Layers
    trained: Trained
    parameters: int | None


def choose_layers(settings: GroupSettings, runs: Sequence[PlannedRun], root_uri: str) -> StepOutput:
    """Return which of the finished runs has the layers that are chosen.

    All layers are the choice unless a part of them has a validation loss that is lower by more than one standard
    error of the paired difference over validation rows. Of several such parts within one standard error of the
    lowest, the one with the fewest trained parameters is chosen.

    Args:
        settings: what the runs have in common.
        runs: two or more runs with layers of their own, on one subset.
        root_uri: the run root, a local path or an `s3://` address.

    Returns:
        A folder with `scope_sweep.json`; numbers in its metadata are metrics.

    Raises:
        NotFoundError: a run is not finished.
    """
    records = [finished_record(settings, run, root_uri) for run in runs]
    layers = [run.layers for run in runs if run.layers is not None]
    inputs = {
        "layers": [each.model_dump() for each in layers],
        "runs": [record.digest for record in records],
    }

    def work(folder: Path) -> dict[str, Any]:
        sweep = _sweep(_candidates(layers, records))
        sweep.write(folder)
        metrics = {
            f"val_loss_{each.layers.scope}_{each.layers.learning_rate:g}": each.val_loss
            for each in sweep.tried
        }
        return {"scope": sweep.chosen.layers.scope, **metrics}

    return produce(root_uri, RUNS_STEP, inputs, work, SWEEPS)


def _candidates(layers: Sequence[Layers], records: Sequence[StepOutput]) -> list[Candidate]:
    """Return the runs; only one that trains a part of the layers knows how many parameters all of them have."""
    results = [json.loads((fetch(record, [RESULT]) / RESULT).read_text()) for record in records]
    of_all = next((each["parameters_of_all"] for each in results if "parameters_of_all" in each), None)
    return [
        Candidate(own, read_trained(record), result.get("trained_parameters", of_all))
        for own, record, result in zip(layers, records, results, strict=True)
    ]


def _sweep(candidates: Sequence[Candidate]) -> ScopeSweep:
    ranked = sorted(candidates, key=lambda each: each.trained.run.val_loss)
    whole = next((each for each in ranked if each.layers.scope == "all"), None)
    reference = whole or ranked[0]
    chosen = _choose(ranked, whole)
    return ScopeSweep(
        tried=[_tried(each, reference, chosen) for each in ranked],
        reference=reference.layers,
        reason=_reason(chosen, whole, ranked),
    )


def _choose(ranked: Sequence[Candidate], whole: Candidate | None) -> Candidate:
    """Return the choice among candidates, the lowest loss first; `whole` trains all layers at their best rate."""
    better = list(ranked)
    if whole is not None:
        gaps = [(each, *paired_difference(each.trained, whole.trained)) for each in ranked]
        better = [each for each, gap, error in gaps if gap < -error]
        if not better:
            return whole
    gaps = [(each, *paired_difference(each.trained, better[0].trained)) for each in better]
    as_good = [each for each, gap, error in gaps if gap <= error]
    return min(as_good, key=lambda each: (each.parameters or 0, each.trained.run.val_loss))


def _tried(candidate: Candidate, reference: Candidate, chosen: Candidate) -> TriedLayers:
    val_loss, error = mean_and_error(candidate.trained.losses)
    return TriedLayers(
        layers=candidate.layers,
        trained_parameters=candidate.parameters,
        seconds=candidate.trained.run.seconds,
        val_loss=val_loss,
        standard_error=error,
        difference=Interval.normal(*paired_difference(candidate.trained, reference.trained)),
        chosen=candidate is chosen,
    )


def _reason(chosen: Candidate, whole: Candidate | None, ranked: Sequence[Candidate]) -> str:
    found = f"validation loss {chosen.trained.run.val_loss:.4f}"
    if chosen is whole:
        if all(each.layers.scope == "all" for each in ranked):
            return f"All layers are trained, at the rate with the lowest {found}."
        return (
            f"All layers are trained: no part of them alone has a validation loss that is lower by more than one "
            f"standard error ({found})."
        )
    beside = (
        ""
        if whole is None
        else f", lower than {whole.trained.run.val_loss:.4f} with all layers by more than one standard error"
    )
    fewest = (
        "" if chosen is ranked[0] else "; of those as good as the lowest, it trains the fewest parameters"
    )
    return f"{_words(chosen.layers)} alone are trained: {found}{beside}{fewest}."


def _words(layers: Layers) -> str:
    part = {"embeddings": "The embeddings", "head": "The output layer and final norm"}
    return part.get(layers.scope, f"The {layers.scope} layers")
