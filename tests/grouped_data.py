"""Small prepared data whose target has rows of two groups, and a source that has none."""

from pathlib import Path

import numpy as np

from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.data.prepared_data import (
    OptionalColumn,
    PreparedTask,
    Split,
    write_index,
    write_split,
)

ROWS: dict[Split, int] = {"train": 40, "val": 16, "test": 64}
LABELS = ["refused", "granted"]
GROUPS = ("male|tall", "female|tall", "female|small", None)
WORDS = ("steady", "late", "early", "never", "always", "new", "old", "rare")


def grouped_data(root: Path) -> StepOutput:
    """Write the target `loans` and the sources `credit` (with groups) and `reviews` (without) under a run root."""

    def work(folder: Path) -> dict[str, str]:
        tasks = []
        for number, (task, columns) in enumerate(
            [("loans", ["group"]), ("reviews", []), ("credit", ["group"])]
        ):
            splits = ROWS if task == "loans" else {"train": ROWS["train"]}
            given: list[OptionalColumn] = ["group"] if columns else []
            for split, rows in splits.items():
                generator = np.random.default_rng([number, len(split)])
                write_split(
                    folder,
                    task,
                    split,
                    [_row(task, row, generator, columns) for row in range(rows)],
                    columns=given,
                )
            tasks.append(PreparedTask(name=task, labels=LABELS, rows=splits, columns=given))
        (folder / "statistics.json").write_text("[]")
        write_index(folder, "bank", "loans", tasks)
        return {"suite": "bank", "target": "loans"}

    return produce(str(root), "data_preparation", {}, work)


def _row(task: str, number: int, generator: np.random.Generator, columns: list[str]) -> dict[str, object]:
    """Return a row whose label depends on its group, which its text names, and on its words."""
    group = GROUPS[int(generator.integers(len(GROUPS)))]
    words = [str(word) for word in generator.choice(WORDS, 4)]
    label = int(generator.random() < (0.8 if group and group.startswith("male") else 0.3))
    text = f"{(group or 'unknown').replace('|', ' ')} {' '.join(words)} {number}"
    row: dict[str, object] = {"id": f"{task}-{number}", "text": text, "text_pair": None, "label": label}
    return row | ({"group": group} if columns else {})
