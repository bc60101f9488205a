"""What was prepared, task by task: as JSON values and as a Markdown table."""

from collections import Counter
from typing import Any

import numpy as np

from gradsift.components.data_preparation.cleaning.cleaning import CleanTask, described
from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.task import AnyRow, Row, Task
from gradsift.components.shared.documents.texts import markdown_text

COLUMNS = [
    "Task",
    "Role",
    "Train rows",
    "Val rows",
    "Test rows",
    "Labels",
    "Most common label",
    "Words, median / p95",
    "Removed train rows",
    "Cut train rows",
    "Harmed by",
    "Licence",
]


def task_statistics(cleaned: CleanTask, target: str) -> dict[str, Any]:
    """Return one task's statistics as JSON values.

    Returns:
        `task`, `role` (target or auxiliary), `rows` by split, `labels` (train rows by label name; none where
        answers are written), `words` (median and 95th percentile of the words in text and text_pair or in the
        prompt, over the splits here), `removed` (rows
        by split and reason) and `cut` (rows by split), see `CleanTask`, `corruption`, `licence`.
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
    }


def markdown_table(suite: str, statistics: list[dict[str, Any]], limit: str | None = None) -> str:
    """Return the statistics of all tasks as a Markdown document.

    Args:
        suite: the suite's name.
        statistics: what `task_statistics` returned, task by task.
        limit: a sentence on how many tokens of a row are read, where that is known.
    """
    lines = [
        f"# Task suite {markdown_text(suite)}",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + " --- |" * len(COLUMNS),
        *(
            "| " + " | ".join(markdown_text(cell) for cell in _table_row(entry)) + " |"
            for entry in statistics
        ),
        "",
        "Rows with the same text count as duplicates even where their labels differ: the first one stays.",
        "Val and test rows of auxiliary tasks are not kept; they were used to find train rows that leak.",
    ]
    return "\n".join([*lines, *([limit] if limit else [])]) + "\n"


def _table_row(entry: dict[str, Any]) -> list[str]:
    rows: dict[Split, int] = entry["rows"]
    common = "-"
    if entry["labels"]:
        label, count = max(entry["labels"].items(), key=lambda item: item[1])
        common = f"{label} ({count / rows['train']:.0%})"
    return [
        entry["task"],
        entry["role"],
        *(str(rows.get(split, "-")) for split in ("train", "val", "test")),
        str(len(entry["labels"]) or "written"),
        common,
        f"{entry['words']['median']:.0f} / {entry['words']['p95']:.0f}",
        described(entry["removed"]["train"]),
        "-" if entry["cut"] is None else str(entry["cut"]["train"]),
        entry["corruption"] or "-",
        entry["licence"] or "not stated",
    ]


def _label_counts(task: Task) -> dict[str, int]:
    counts = Counter(row.label for row in task.splits["train"] if isinstance(row, Row))
    return {name: counts[index] for index, name in enumerate(task.labels)}


def _words(row: AnyRow) -> int:
    return sum(len(text.split()) for text in row.asked if text is not None)
