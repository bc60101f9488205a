"""Removes duplicates and what would leak into validation or test, and samples tasks larger than wanted.

Two rows are the same if their normalised texts (text and text_pair, or the prompt) are equal, whatever their
answers: of such rows in one split the first stays. Test rows win over val rows, val and test rows of every task
over train rows.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.task import AnyRow, Row, Task
from gradsift.components.shared.data.suites.task_suite import TaskSuite
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.prompt_format import Fit

Reason = Literal["duplicate", "in_test", "in_val_or_test", "too_long", "over_cap"]
RowKey = tuple[str, str | None]
RowFit = Callable[[Task, AnyRow], Fit]
"""Says how a row fits into what the model takes."""


@dataclass(frozen=True)
class CleanTask:
    """A task after cleaning.

    Attributes:
        task: the task with the rows that stayed, in their order.
        removed: for each split, how many rows went for each reason: `duplicate` (the same row stands earlier
            in the split), `in_test` (a val row that is in the task's test split), `in_val_or_test` (a train
            row that is in the val or test split of a task that was read), `too_long` (its answer does not fit
            into what the model takes), `over_cap` (not in the sample).
        cut: for each split, how many of the rows that stayed lose text to fit into what the model takes; None
            where that is not known.
    """

    task: Task
    removed: dict[Split, dict[Reason, int]]
    cut: dict[Split, int] | None


def clean_suite(
    suite: TaskSuite, max_rows_per_task: int, seed: int, fit: RowFit | None = None
) -> list[CleanTask]:
    """Return the suite's tasks cleaned, in their order.

    Args:
        suite: the tasks as read.
        max_rows_per_task: largest number of train rows of a task, 0 for no limit.
        seed: seed of the sample.
        fit: says how a row fits into what the model takes; None where that is not known.

    Raises:
        InputError: a split has no rows left, or a train split has rows of one label only.
    """
    held_out = {
        row_key(row)
        for task in suite.tasks
        for split, rows in task.splits.items()
        if split != "train"
        for row in rows
    }
    tasks = [_clean_task(task, held_out, max_rows_per_task, seed, fit) for task in suite.tasks]
    for task in tasks:
        _check_usable(task, suite.where)
    return tasks


def row_key(row: AnyRow) -> RowKey:
    """Return what two rows have in common that count as the same."""
    first, second = row.asked
    return normalised(first), None if second is None else normalised(second)


def normalised(text: str) -> str:
    """Return `text` in Unicode form NFKC, case-folded, with runs of white space as single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def stratified_sample(labels: list[int], size: int, seed: int) -> list[int]:
    """Draw `size` row numbers so that each label keeps its share, rounded by the largest remainder.

    Args:
        labels: the label of each row.
        size: how many rows to draw, at most `len(labels)`.
        seed: seed of the draw.

    Returns:
        The numbers of the drawn rows, ascending.
    """
    counts = sorted(Counter(labels).items())
    quotas = {label: count * size // len(labels) for label, count in counts}
    by_remainder = sorted(counts, key=lambda item: -(item[1] * size % len(labels)))
    for label, _ in by_remainder[: size - sum(quotas.values())]:
        quotas[label] += 1
    generator = np.random.default_rng(seed)
    numbers = np.asarray(labels)
    drawn = [
        generator.choice(np.flatnonzero(numbers == label), quota, replace=False)
        for label, quota in quotas.items()
    ]
    return sorted(np.concatenate(drawn).tolist())


def _clean_task(task: Task, held_out: set[RowKey], max_rows: int, seed: int, fit: RowFit | None) -> CleanTask:
    in_test = {row_key(row) for row in task.splits.get("test", [])}
    forbidden: dict[Split, tuple[Reason, set[RowKey]]] = {
        "train": ("in_val_or_test", held_out),
        "val": ("in_test", in_test),
        "test": ("in_test", set()),
    }
    splits: dict[Split, list[AnyRow]] = {}
    removed: dict[Split, dict[Reason, int]] = {}
    fits: dict[str, Fit] = {}
    for split, rows in task.splits.items():
        kept, removed[split] = _filtered(rows, *forbidden[split])
        if fit is not None:
            fits |= {row.id: fit(task, row) for row in kept}
        splits[split] = [row for row in kept if fits.get(row.id) != "too_long"]
        if len(splits[split]) < len(kept):
            removed[split]["too_long"] = len(kept) - len(splits[split])
    train = splits["train"]
    if 0 < max_rows < len(train):
        strata = [row.label if isinstance(row, Row) else 0 for row in train]
        sample = stratified_sample(strata, max_rows, seed)
        splits["train"] = [train[number] for number in sample]
        removed["train"]["over_cap"] = len(train) - max_rows
    cut = (
        {split: sum(fits[row.id] == "cut" for row in rows) for split, rows in splits.items()} if fit else None
    )
    return CleanTask(replace(task, splits=splits), removed, cut)


def _filtered(
    rows: list[AnyRow], reason: Reason, forbidden: set[RowKey]
) -> tuple[list[AnyRow], dict[Reason, int]]:
    kept: list[AnyRow] = []
    removed: Counter[Reason] = Counter()
    seen: set[RowKey] = set()
    for row in rows:
        key = row_key(row)
        if key in forbidden:
            removed[reason] += 1
        elif key in seen:
            removed["duplicate"] += 1
        else:
            seen.add(key)
            kept.append(row)
    return kept, dict(removed)


def _check_usable(cleaned: CleanTask, where: str) -> None:
    task = cleaned.task
    for split, rows in task.splits.items():
        if not rows:
            raise InputError(
                f"{where}: task {task.name!r} has no rows left in its {split} split after cleaning "
                f"({described(cleaned.removed[split])} removed), expected at least one."
            )
    check_labels_differ(cleaned, "train", where)


def check_labels_differ(cleaned: CleanTask, split: Split, where: str) -> None:
    """Raise InputError where the rows of a split all have one label, from which nothing can be learnt or judged."""
    task = cleaned.task
    labels = {row.label for row in task.splits[split] if isinstance(row, Row)}
    if len(labels) == 1:
        raise InputError(
            f"{where}: the {split} split of task {task.name!r} holds rows of one label only, "
            f"{task.labels[labels.pop()]!r}, expected two labels or more (rows removed before: "
            f"{described(cleaned.removed[split])})."
        )


def described(removed: dict[Reason, int]) -> str:
    """Return counts of removed rows in words, `none` where there are none."""
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in removed.items()) or "none"
