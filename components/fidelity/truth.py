"""Truth files: true losses of a study's subsets, so that estimates can be judged again without training.

A truth file is a `FineTuningRuns` as JSON. It lists the runs of every subset with the same seeds.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRuns
from gradsift.components.shared.records.results import invalid_file
from gradsift.components.shared.storage.bounded_reading import read_local_file
from gradsift.components.shared.storage.local import atomic_file

DECISIVE = ("learning_rate", "batch_size", "sampling_exponent", "weight_decay")
"""Fields of a recipe, beside the steps, that decide what a run learns."""

MAX_TRUTH_BYTES = 2**28
MIN_SUBSETS = 8


def read_truth(path: Path) -> FineTuningRuns:
    """Read a truth file.

    Raises:
        InputError: the file is too large, is not valid, has few subsets, or lacks a seed of a subset.
        StorageError: it cannot be read.
    """
    try:
        content: Any = json.loads(read_local_file(path, MAX_TRUTH_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"The truth file {path} is not JSON: expected one of --save-truth.") from error
    try:
        for run in content["runs"]:
            run.setdefault("start", content["start"])
        truth = FineTuningRuns.model_validate(content)
    except ValidationError as error:
        raise invalid_file(f"The truth file {path}", error) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"The truth file {path} is not valid: expected the fields start and runs."
        ) from error
    subsets, seeds = subsets_of(truth), {run.seed for run in truth.runs}
    if len(subsets) < MIN_SUBSETS:
        raise InputError(f"The truth file {path} has {len(subsets)} subsets: expected {MIN_SUBSETS} or more.")
    for subset in subsets:
        missing = seeds - {run.seed for run in truth.runs if set(run.subset) == set(subset)}
        if missing:
            raise InputError(
                f"The truth file {path} has no run with seed {min(missing)} on {', '.join(subset) or 'no source'}: "
                "expected every subset with the same seeds."
            )
    return truth


def write_truth(truth: FineTuningRuns, path: Path) -> None:
    """Write a truth file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(truth.model_dump_json(indent=1) + "\n", encoding="utf-8")


def subsets_of(truth: FineTuningRuns) -> list[list[str]]:
    """Return the distinct subsets: none, all, then the others in the order of the runs."""
    subsets = {frozenset(run.subset): run.subset for run in truth.runs}
    everything = max(subsets, key=len)
    ends = [frozenset[str](), everything]
    return [subsets[key] for key in [*ends, *(own for own in subsets if own not in ends)] if key in subsets]


def check_fits(truth: FineTuningRuns, data: PreparedData, recipe: TrainingRecipe) -> None:
    """Check that a truth is of the data and the recipe at hand.

    Raises:
        InputError: it is not; the message names the first field that differs.
    """
    expected: dict[str, Any] = {
        "suite": data.suite,
        "target": data.target,
        "sources": sorted(data.auxiliary_tasks),
    }
    subsets = subsets_of(truth)
    sources = sorted({task for subset in subsets for task in subset})
    found: dict[str, Any] = {"suite": truth.suite, "target": truth.target, "sources": sources}
    expected |= {name: getattr(recipe, name) for name in DECISIVE}
    found |= {name: truth.recipe.get(name) for name in DECISIVE}
    if truth.max_length is not None:
        expected["max_length"], found["max_length"] = data.max_length, truth.max_length
    for name, value in expected.items():
        if found[name] != value:
            raise InputError(f"The truth is of {name} {found[name]!r}: expected {value!r}, as in this study.")
    if subsets[0] or set(subsets[1]) != set(data.auxiliary_tasks):
        raise InputError("The truth lacks a run on none or on all of the sources: expected both.")
    for run in truth.runs:
        rows = sum(data.task(task).rows["train"] for task in [data.target, *run.subset])
        for name, own, wanted in (
            ("train rows", run.train_rows, rows),
            ("optimizer steps", run.optimizer_steps, recipe.optimizer_steps(rows)),
        ):
            if own != wanted:
                raise InputError(
                    f"A run of the truth, on {', '.join(run.subset) or 'no source'}, has {own} {name}: expected "
                    f"{wanted}, as in this study."
                )
