"""The statistics say what was prepared, for machines and for readers."""

import json

from gradsift.components.data_preparation.cleaning.cleaning import CleanTask
from gradsift.components.data_preparation.cleaning.statistics import markdown_table, task_statistics
from gradsift.components.shared.data.suites.task import GenerationRow, Row, Task


def cleaned(licence: str = "MIT", corruption: str | None = None) -> CleanTask:
    train = [Row(str(n), "word " * n, None, 0 if n < 4 else 1) for n in range(1, 5)]
    splits = {"train": train, "val": [Row("v", "one two", "three", 0)]}
    task = Task("films", ["bad", "good | great", "none"], splits, licence, corruption)  # type: ignore[arg-type]
    return CleanTask(task, {"train": {"duplicate": 2}, "val": {}}, None)


def test_the_numbers_are_those_of_the_rows() -> None:
    statistics = task_statistics(cleaned(), "films")
    assert json.loads(json.dumps(statistics)) == {
        "task": "films",
        "role": "target",
        "rows": {"train": 4, "val": 1},
        "labels": {"bad": 3, "good | great": 1, "none": 0},
        "words": {"median": 3.0, "p95": 3.8},
        "removed": {"train": {"duplicate": 2}, "val": {}},
        "cut": None,
        "corruption": None,
        "licence": "MIT",
    }


def test_the_table_has_a_row_a_task_and_keeps_its_columns() -> None:
    entries = [
        task_statistics(cleaned(), "films"),
        task_statistics(cleaned("a|b\n<i>", corruption="flip_labels"), "books"),
    ]
    lines = markdown_table("my suite", entries).splitlines()
    assert lines[0] == "# Task suite my suite"
    assert lines[4] == "| films | target | 4 | 1 | - | 3 | bad (75%) | 3 / 4 | 2 duplicate | - | - | MIT |"
    assert lines[5] == (
        r"| films | auxiliary | 4 | 1 | - | 3 | bad (75%) | 3 / 4 | 2 duplicate | - | flip\_labels "
        r"| a\|b \<i\> |"
    )
    assert {line.replace(r"\|", "").count("|") for line in lines[2:6]} == {13}
    assert "where their labels differ: the first one stays" in lines[7]


def test_written_answers_have_no_labels_to_count() -> None:
    rows = [GenerationRow(str(n), "word " * n, "x", None, ["x"]) for n in range(1, 4)]
    task = Task("sums", [], {"train": rows})  # type: ignore[dict-item]
    statistics = task_statistics(CleanTask(task, {"train": {"too_long": 2}}, {"train": 1}), "sums")
    assert (statistics["labels"], statistics["words"]) == ({}, {"median": 2.0, "p95": 2.9})
    line = markdown_table("s", [statistics]).splitlines()[4]
    assert line == "| sums | target | 3 | - | - | written | - | 2 / 3 | 2 too long | 1 | - | not stated |"
