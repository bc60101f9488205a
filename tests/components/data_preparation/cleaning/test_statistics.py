"""The statistics say what was prepared, for machines and for readers."""

import json

from gradsift.components.data_preparation.cleaning.cleaning import CleanTask
from gradsift.components.data_preparation.cleaning.statistics import markdown_statistics, task_statistics
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


def test_a_table_has_the_numbers_and_a_list_what_is_long() -> None:
    entries = [
        task_statistics(cleaned(), "films"),
        task_statistics(cleaned("a|b\n<i>", corruption="flip_labels"), "books"),
    ]
    lines = markdown_statistics("my suite", entries).splitlines()
    assert lines[0] == "# Task suite my suite"
    assert lines[4:6] == ["| films (target) | 4 | 1 | - |", "| films | 4 | 1 | - |"]
    assert {line.count("|") for line in lines[2:6]} == {5}
    rows = (
        "3 words per row (4 at the 95th percentile); train rows removed: 2 duplicate; 3 labels, bad for 75%"
    )
    assert lines[7] == f"- **films**: {rows}; licence: MIT"
    assert lines[8] == rf"- **films**: {rows}; corruption: flip\_labels; licence: a\|b \<i\>"
    assert "where their labels differ: the first one stays" in lines[10]


def test_groups_and_times_are_counted_where_rows_have_them() -> None:
    train = [Row(str(n), "word", None, n % 2, f"group {min(n, 22):02}", f"20{n:02}-05-01") for n in range(25)]
    train.append(Row("none", "word", None, 0))
    task = Task("films", ["bad", "good"], {"train": train})  # type: ignore[dict-item]
    statistics = task_statistics(CleanTask(task, {"train": {}}, None), "films")
    assert list(statistics["groups"]["largest"].items())[:2] == [("group 22", 3), ("group 00", 1)]
    assert (len(statistics["groups"]["largest"]), statistics["groups"]["others"]) == (20, 3)
    assert statistics["times"] == {"first": "2000-05-01", "last": "2024-05-01"}
    line = markdown_statistics("s", [statistics]).splitlines()[6]
    assert "; groups: group 22 3, group 00 1, " in line
    assert ", group 18 1, others 3; from 2000-05-01 to 2024-05-01; licence" in line


def test_written_answers_have_no_labels_to_count() -> None:
    rows = [GenerationRow(str(n), "word " * n, "x", None, ["x"]) for n in range(1, 4)]
    task = Task("sums", [], {"train": rows})  # type: ignore[dict-item]
    statistics = task_statistics(CleanTask(task, {"train": {"too_long": 2}}, {"train": 1}), "sums")
    assert (statistics["labels"], statistics["words"]) == ({}, {"median": 2.0, "p95": 2.9})
    lines = markdown_statistics("s", [statistics]).splitlines()
    assert lines[4] == "| sums (target) | 3 | - | - |"
    assert lines[6] == (
        "- **sums**: 2 words per row (3 at the 95th percentile); train rows removed: 2 too long; "
        "train rows cut: 1; answers are written; licence: not stated"
    )
