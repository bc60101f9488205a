"""The step: read the suite, clean it, write what the later steps read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from gradsift.components.data_preparation.cleaning.answer_limit import AnswerLimit, answer_limit
from gradsift.components.data_preparation.cleaning.cleaning import CleanTask, check_labels_differ, clean_suite
from gradsift.components.data_preparation.cleaning.statistics import markdown_statistics, task_statistics
from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.data.prepared_data import (
    DEFAULT_MAX_LENGTH,
    STATISTICS,
    OptionalColumn,
    PreparedTask,
    Split,
    write_index,
    write_split,
)
from gradsift.components.shared.data.suites.task_suite import TaskSuite, read_suite
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.storage.local import atomic_file


def prepare_data(
    config: DataPreparationConfig, root_uri: str, model: ModelConfig | None = None
) -> StepOutput:
    """Read, check and clean a task suite, and write it under the run root.

    Every split of the tasks is read, to find train rows that leak from one task into the held-out rows of
    another; the target is written with its three splits, auxiliary tasks with their train split alone.
    The output holds `tasks.json` and `<task>/<split>.arrow` (see `shared.prepared_data`), `statistics.json`
    and `statistics.md`. The same data and settings give the same bytes, wherever the suite lies.

    Args:
        config: which data, and how much of it.
        root_uri: the run root, a local path or an `s3://` address.
        model: the model that the data is for: rows whose answer it cannot take are left out; None keeps them.

    Returns:
        The output; its metadata are `suite`, `suite_digest`, `target`, `max_length` (largest number of tokens that
        are read of a row), `tasks`, `train_rows`, `val_rows`, `test_rows` and `removed_rows` (rows of the written
        splits that were left out, for whatever reason).

    Raises:
        InputError: the suite, a task or a row is not what was expected, or a task not what the model does; the
            message names it.
        StorageError: a file cannot be read or written.
    """
    suite = read_suite(config)
    limit = None if model is None else answer_limit(model, suite)
    digest = suite.content_digest()
    inputs = {
        "suite": digest,
        "target": config.target,
        "max_rows_per_task": config.max_rows_per_task,
        "seed": config.seed,
    }
    if limit is not None:
        inputs["answer_limit"] = limit.decided_by

    def work(folder: Path) -> dict[str, Any]:
        fit = limit.fit if limit and limit.format else None
        cleaned = clean_suite(suite, config.max_rows_per_task, config.seed, fit)
        kept = [_written_part(task, config.target, suite.where) for task in cleaned]
        _write(folder, suite, config.target, kept, limit)
        return _metadata(suite.name, digest, config.target, kept, limit)

    return produce(root_uri, "data_preparation", inputs, work)


def _written_part(cleaned: CleanTask, target: str, where: str) -> CleanTask:
    task = cleaned.task
    if task.name == target:
        check_labels_differ(cleaned, "val", where)
        return cleaned
    return CleanTask(
        replace(task, splits={"train": task.splits["train"]}),
        {"train": cleaned.removed["train"]},
        None if cleaned.cut is None else {"train": cleaned.cut["train"]},
    )


def _write(
    folder: Path, suite: TaskSuite, target: str, tasks: list[CleanTask], limit: AnswerLimit | None
) -> None:
    prepared = [_prepared(cleaned) for cleaned in tasks]
    for cleaned, task in zip(tasks, prepared, strict=True):
        for split, rows in cleaned.task.splits.items():
            records = [row._asdict() for row in rows]
            write_split(folder, task.name, split, records, task.kind, task.columns)
    statistics = [task_statistics(cleaned, target) for cleaned in tasks]
    with atomic_file(folder / STATISTICS) as path:
        path.write_text(json.dumps(statistics, indent=1, ensure_ascii=False), encoding="utf-8")
    with atomic_file(folder / "statistics.md") as path:
        path.write_text(
            markdown_statistics(suite.name, statistics, limit.sentence if limit else None), encoding="utf-8"
        )
    write_index(folder, suite.name, target, prepared, _max_length(limit))


def _max_length(limit: AnswerLimit | None) -> int:
    return DEFAULT_MAX_LENGTH if limit is None else limit.max_length


def _prepared(cleaned: CleanTask) -> PreparedTask:
    task = cleaned.task
    rows = [row for split in task.splits.values() for row in split]
    return PreparedTask(
        name=task.name,
        kind=task.kind,
        labels=task.labels,
        rows={split: len(rows) for split, rows in task.splits.items()},
        licence=task.licence,
        corruption=task.corruption,
        period=task.period,
        columns=[
            column
            for column in get_args(OptionalColumn)
            if any(getattr(row, column) is not None for row in rows)
        ],
    )


def _metadata(
    suite: str, digest: str, target: str, tasks: list[CleanTask], limit: AnswerLimit | None
) -> dict[str, Any]:
    def rows(split: Split) -> int:
        return sum(len(cleaned.task.splits.get(split, [])) for cleaned in tasks)

    return {
        "suite": suite,
        "suite_digest": digest,
        "target": target,
        "max_length": _max_length(limit),
        "tasks": len(tasks),
        "train_rows": rows("train"),
        "val_rows": rows("val"),
        "test_rows": rows("test"),
        "removed_rows": sum(
            count for cleaned in tasks for counts in cleaned.removed.values() for count in counts.values()
        ),
    }
