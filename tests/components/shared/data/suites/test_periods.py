"""Tasks with times are cut into periods: the newest keeps the name, older ones become sources."""

import json
from pathlib import Path
from typing import Any

import pytest

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import INDEX, PreparedData
from gradsift.components.shared.data.suites.periods import cut_into_periods, period_of
from gradsift.components.shared.data.suites.task import Row, Task
from gradsift.components.shared.data.suites.task_suite import SPLITS, find_tasks
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.data import DataPreparationConfig, Periods


def rows(*times: str | None) -> list[Any]:
    """Two rows of each time, one of each label."""
    return [
        Row(f"{number}-{label}", f"text {number} {label}", None, label, time=time)
        for number, time in enumerate(times)
        for label in (0, 1)
    ]


def task(name: str = "news", **splits: list[Any]) -> Task:
    return Task(name, ["bad", "good"], splits)  # type: ignore[arg-type]


def cut(*tasks: Task, unit: Periods = "year") -> list[Task]:
    return cut_into_periods(tasks, "news", unit, SPLITS, "m.json")


TARGET = {"train": rows("2003", "2005", "2004"), "val": rows("2005", "2003"), "test": rows("2005", "2004")}


@pytest.mark.parametrize(
    ("time", "unit", "period"),
    [
        ("2005", "year", "2005"),
        ("2005", "month", None),
        ("2005", "quarter", None),
        ("2005-03-31", "year", "2005"),
        ("2005-03-31", "quarter", "2005-Q1"),
        ("2005-04-01", "quarter", "2005-Q2"),
        ("2005-12-31T23:00:00", "quarter", "2005-Q4"),
        ("2005-03-31", "month", "2005-03"),
    ],
)
def test_the_period_of_a_time(time: str, unit: Periods, period: str | None) -> None:
    assert period_of(time, unit) == period


def test_the_newest_period_keeps_the_name_and_its_held_out_rows() -> None:
    newest, *older = cut(task(**TARGET))
    assert (newest.name, newest.period) == ("news", "2005")
    assert {split: [row.time for row in found] for split, found in newest.splits.items()} == {
        split: ["2005", "2005"] for split in SPLITS
    }
    assert [(past.name, past.period) for past in older] == [("news.2004", "2004"), ("news.2003", "2003")]
    assert all(list(past.splits) == ["train"] for past in older)
    assert [row.id for row in older[0].splits["train"]] == ["2-0", "2-1"]


def test_sources_are_cut_too_by_their_own_newest_period_and_those_without_times_stay() -> None:
    old = task("reviews", train=rows("1999-05-01", "1998-02-01"), val=rows("1998"))
    plain = task("plain", train=rows(None, None))
    found = cut(old, task(**TARGET), plain)
    assert [each.name for each in found[:2]] == ["reviews", "reviews.1998"]
    assert found[-1] == plain


def test_a_period_of_one_label_is_left_out() -> None:
    train = [row for row in TARGET["train"] if row.time != "2003" or row.label == 0]
    assert [each.name for each in cut(task(**TARGET | {"train": train}))] == ["news", "news.2004"]


@pytest.mark.parametrize(
    ("splits", "unit", "sentence"),
    [
        (
            dict.fromkeys(SPLITS, rows(None)),
            "year",
            "Parameter prepare_periods is 'year': expected 'none', as no row of the target 'news' has a 'time' or "
            "'date'.",
        ),
        (
            dict.fromkeys(SPLITS, rows("2005")),
            "year",
            "Parameter prepare_periods is 'year': expected 'none' or shorter periods, as the target 'news' has no "
            "older period than 2005 to learn from.",
        ),
        (
            TARGET | {"val": rows("2004"), "test": rows("2004", "2003")},
            "year",
            "Parameter prepare_periods is 'year': expected 'none' or longer periods, as 2005, the newest of the "
            "target 'news', has no val and no test rows; the newest period that has them is 2004.",
        ),
        (
            TARGET | {"val": rows("2001")},
            "year",
            "Parameter prepare_periods is 'year': expected 'none' or longer periods, as 2005, the newest of the "
            "target 'news', has no val rows; no period has them all.",
        ),
        (
            TARGET,
            "month",
            "m.json: row '0-0' of task 'news' has the time '2003', expected an ISO date in each of its rows where "
            "prepare_periods is 'month'.",
        ),
        (
            TARGET | {"train": rows("2005", None, "2004")},
            "year",
            "m.json: row '1-0' of task 'news' has no 'time' or 'date', expected a year or an ISO date in each of "
            "its rows where prepare_periods is 'year'.",
        ),
    ],
    ids=["no times", "one period", "no held-out rows", "no period with all", "too coarse", "a row without"],
)
def test_what_cannot_be_cut_is_one_sentence(
    splits: dict[str, list[Any]], unit: Periods, sentence: str
) -> None:
    with pytest.raises(InputError) as error:
        cut(task(**splits), unit=unit)
    assert str(error.value) == sentence


def test_the_name_of_a_past_period_that_is_taken_is_named() -> None:
    with pytest.raises(InputError, match=r"task 'news.2004' has the name of a past period"):
        cut(task(**TARGET), task("news.2004", train=rows(None)))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    folder = tmp_path / "suite"
    folder.mkdir()
    for split, found in TARGET.items():
        lines = [
            {
                "id": f"{split}-{row.id}",
                "text": f"{split} {row.text}",
                "label": row.label,
                "time": int(row.time),
            }
            for row in found
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    splits = {split: {"file": f"{split}.jsonl"} for split in TARGET}
    entry = {"name": "news", "labels": {"0": "bad", "1": "good"}, "splits": splits}
    (folder / "manifest.json").write_text(json.dumps({"suite": "years", "tasks": [entry]}))
    return folder


def test_a_suite_of_one_task_gives_its_past_periods_as_sources(suite: Path, tmp_path: Path) -> None:
    config = DataPreparationConfig(suite=str(suite), target="news", periods="year")
    found = find_tasks(config)
    assert (
        found.sentence == "years has the target news and the past periods of tasks with times to choose from"
    )
    assert [found.may_have(name) for name in ("news.2004", "songs.2004", "news")] == [True, False, False]
    data = PreparedData(fetch(prepare_data(config, str(tmp_path / "root"))))
    assert data.target == "news"
    assert data.auxiliary_tasks == ["news.2004", "news.2003"]
    assert [each.period for each in data.tasks] == ["2005", "2004", "2003"]
    assert data.column("news.2004", "train", "time") == ["2004", "2004"]
    assert data.task("news").rows == {"train": 2, "val": 2, "test": 2}


def test_without_periods_the_index_of_tasks_is_as_before(suite: Path, tmp_path: Path) -> None:
    manifest = json.loads((suite / "manifest.json").read_text())
    manifest["tasks"].append({"name": "flipped", "derived_from": "news", "corruption": "flip_labels"})
    (suite / "manifest.json").write_text(json.dumps(manifest))
    folder = fetch(
        prepare_data(DataPreparationConfig(suite=str(suite), target="news"), str(tmp_path / "root"))
    )
    assert all("period" not in entry for entry in json.loads((folder / INDEX).read_text())["tasks"])
    assert "periods" not in DataPreparationConfig().model_dump()
