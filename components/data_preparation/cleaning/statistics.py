"""What was prepared, task by task: as JSON values and in Markdown."""

from collections import Counter
from typing import Any

import numpy as np

from gradsift.components.data_preparation.cleaning.cleaning import CleanTask, described
from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.task import AnyRow, Row, Task
from gradsift.components.shared.documents.texts import markdown_text

MAX_GROUPS = 20
"""Groups of a task that are counted one by one."""


def task_statistics(cleaned: CleanTask, target: str) -> dict[str, Any]:
    """Return one task's statistics as JSON values.

    Returns:
        `task`, `role` (target or auxiliary), `rows` by split, `labels` (train rows by label name; none where
        answers are written), `words` (median and 95th percentile of the words in text and text_pair or in the
        prompt, over the splits here), `removed` (rows
        by split and reason) and `cut` (rows by split), see `CleanTask`, `corruption`, `licence`. Where train rows
        have them also `groups` (`largest`: train rows by group, of the first 20; `others`: train rows of all
        other groups) and `times` (`first` and `last`).
    """
    task = cleaned.task
    words = [_words(row) for rows in task.splits.values() for row in rows]
    return {
        "task": task.name,
        "role": "target" if task.name == target else "auxiliary",
        "rows": {split: len(rows) for split, rows in task.splits.items()},
        "labels": _label_counts(task),
        "words": {"median": float(np.median(words)), "p95": float(np.percentile(words, 95))},
        "removed": cleaned.removed,
        "cut": cleaned.cut,
        "corruption": task.corruption,
        "licence": task.licence,
        **_group_counts(task),
        **_period(task),
    }


def markdown_statistics(suite: str, statistics: list[dict[str, Any]], limit: str | None = None) -> str:
    """Return the statistics of all tasks as a Markdown document, a narrow table and a list of what is long.

    Kubeflow's UI shows it in a panel of 600 pixels.

    Args:
        suite: the suite's name.
        statistics: what `task_statistics` returned, task by task.
        limit: a sentence on how many tokens of a row are read, where that is known.
    """
    lines = [
        f"# Task suite {markdown_text(suite)}",
        "",
        "| Task | Train rows | Val | Test |",
        "| --- | ---: | ---: | ---: |",
        *(_table_row(entry) for entry in statistics),
        "",
        *(f"- **{markdown_text(entry['task'])}**: {_details(entry)}" for entry in statistics),
        "",
        "Rows with the same text count as duplicates even where their labels differ: the first one stays.",
        "Val and test rows of auxiliary tasks are not kept; they were used to find train rows that leak.",
    ]
    return "\n".join([*lines, *([limit] if limit else [])]) + "\n"


def _table_row(entry: dict[str, Any]) -> str:
    rows: dict[Split, int] = entry["rows"]
    target = " (target)" if entry["role"] == "target" else ""
    counts = " | ".join(str(rows.get(split, "-")) for split in ("train", "val", "test"))
    return f"| {markdown_text(entry['task'])}{target} | {counts} |"


def _details(entry: dict[str, Any]) -> str:
    """Return what is known of a task's rows beside their number, and its licence."""
    labels, words = entry["labels"], entry["words"]
    details = [
        f"{words['median']:.0f} words per row ({words['p95']:.0f} at the 95th percentile)",
        f"train rows removed: {described(entry['removed']['train'])}",
    ]
    if entry["cut"] is not None:
        details.append(f"train rows cut: {entry['cut']['train']}")
    if labels:
        common = max(labels, key=labels.get)
        details.append(f"{len(labels)} labels, {common} for {labels[common] / entry['rows']['train']:.0%}")
    else:
        details.append("answers are written")
    if groups := entry.get("groups"):
        counts = [f"{group} {count}" for group, count in groups["largest"].items()]
        others = [f"others {groups['others']}"] if groups["others"] else []
        details.append(f"groups: {', '.join(counts + others)}")
    if times := entry.get("times"):
        first, last = times["first"], times["last"]
        details.append(f"of {first}" if first == last else f"from {first} to {last}")
    if entry["corruption"]:
        details.append(f"corruption: {entry['corruption']}")
    return markdown_text("; ".join([*details, f"licence: {entry['licence'] or 'not stated'}"]))


def _label_counts(task: Task) -> dict[str, int]:
    counts = Counter(row.label for row in task.splits["train"] if isinstance(row, Row))
    return {name: counts[index] for index, name in enumerate(task.labels)}


def _group_counts(task: Task) -> dict[str, Any]:
    counts = Counter(row.group for row in task.splits["train"] if row.group is not None)
    if not counts:
        return {}
    largest = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_GROUPS]
    return {
        "groups": {"largest": dict(largest), "others": counts.total() - sum(count for _, count in largest)}
    }


def _period(task: Task) -> dict[str, Any]:
    times = [row.time for row in task.splits["train"] if row.time is not None]
    return {"times": {"first": min(times), "last": max(times)}} if times else {}


def _words(row: AnyRow) -> int:
    return sum(len(text.split()) for text in row.asked if text is not None)
