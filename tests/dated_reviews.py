"""A suite of one task of reviews with a time, in whose years the labels may mean different things."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

TEXTS = (" ".join(["awful"] * 8), " ".join(["wonderful"] * 8))


def write_dated_reviews(
    folder: Path, task: str, rows: Mapping[str, Mapping[int, tuple[int, int]]], swapped: Collection[int]
) -> None:
    """Write the suite into an existing folder.

    Args:
        folder: where.
        task: name of the task.
        rows: by split and year, how many rows are labelled negative and positive.
        swapped: years whose rows call good what the others call bad.
    """
    for split, years in rows.items():
        lines = [
            {
                "id": f"{split}-{year}-{label}-{row}",
                "text": f"{split} {year} {row} {TEXTS[label ^ (year in swapped)]}",
                "label": label,
                "time": year,
            }
            for year, counts in years.items()
            for label, count in enumerate(counts)
            for row in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    files = {split: {"file": f"{split}.jsonl"} for split in rows}
    entry = {"name": task, "labels": {"0": "negative", "1": "positive"}, "splits": files}
    (folder / "manifest.json").write_text(json.dumps({"suite": "years", "tasks": [entry]}))
