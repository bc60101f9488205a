"""One data set becomes a task for each group that is large enough; the rest stays together."""

import re
from typing import Any

import pytest

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.suites.cutting import cut_by_group
from gradsift.components.shared.data.suites.task import GenerationRow, Row, Task
from gradsift.components.shared.data.suites.task_suite import find_tasks
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.addresses import checked_key


def rows_of(*groups: str | None) -> list[Row]:
    """Rows whose labels alternate."""
    return [Row(str(n), f"text {n}", None, n % 2, group) for n, group in enumerate(groups)]


def cut(*groups: str | None, min_rows: int = 2, **held_out: list[Row]) -> list[Task]:
    splits: dict[Any, Any] = {"train": rows_of(*groups), **held_out}
    return cut_by_group(Task("adult", ["low", "high"], splits, "CC-BY-4.0"), "sex", min_rows, "m.json")


def names(tasks: list[Task]) -> list[str]:
    return [task.name.removeprefix("adult#") for task in tasks]


def test_each_group_that_is_large_enough_is_a_task_and_the_rest_another() -> None:
    tasks = cut("women", "men", "a", None, "men", "women", "b", "men")
    assert names(tasks) == ["men", "women", "other"]
    assert [[row.id for row in task.splits["train"]] for task in tasks] == [
        ["1", "4", "7"],
        ["0", "5"],
        ["2", "3", "6"],
    ]
    assert {(*task.labels, task.licence) for task in tasks} == {("low", "high", "CC-BY-4.0")}


def test_without_rows_left_there_is_no_other() -> None:
    assert names(cut("men", "men", "women", "women")) == ["men", "women"]


def test_rows_left_of_one_label_are_left_out() -> None:
    assert names(cut("men", "men", "few")) == ["men"]


def test_held_out_rows_follow_their_group() -> None:
    val = rows_of("women", "only here", "men", "women")
    men, women, other = cut("men", "men", "women", "women", "few", "fewer", val=val)
    assert [row.id for row in women.splits["val"]] == ["0", "3"]
    assert [row.id for row in men.splits["val"]] == ["2"]
    assert [row.id for row in other.splits["val"]] == ["1"]
    assert list(cut("men", "men", "women", "women", val=rows_of("men"))[1].splits) == ["train"]


def test_a_group_of_one_label_joins_the_others() -> None:
    alike = [Row(f"x{n}", "text", None, 0, "alike") for n in range(5)]
    task = Task("adult", ["low", "high"], {"train": [*rows_of("men", "men", None, "few"), *alike]})  # type: ignore[list-item]
    assert names(cut_by_group(task, "sex", 2, "m.json")) == ["men", "other"]
    written = [GenerationRow(f"{n}", "p", "c", None, ["c"], group="alike") for n in range(2)]
    task = Task("adult", [], {"train": written})  # type: ignore[dict-item]
    assert names(cut_by_group(task, "sex", 2, "m.json")) == ["alike"]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["male|asian pac islander"], ["male-asian-pac-islander"]),
        (["Café"], ["Cafe"]),
        (["../.."], [r"[0-9a-f]{8}"]),
        (["数学"], [r"[0-9a-f]{8}"]),
        (["other"], [r"other-[0-9a-f]{8}"]),
        (["C", "C++"], [r"C-[0-9a-f]{8}", r"C-[0-9a-f]{8}"]),
        (["code", "Code"], [r"Code-[0-9a-f]{8}", r"code-[0-9a-f]{8}"]),
        (["x" * 41], [r"x{40}-[0-9a-f]{8}"]),
        (["statistics.json", "a.partial"], ["a-partial", "statistics-json"]),
    ],
)
def test_names_are_safe_and_tell_groups_apart(groups: list[str], expected: list[str]) -> None:
    found = names(cut(*sorted([*groups, *groups])))
    assert len(set(found)) == len(expected)
    for name, pattern in zip(found, expected, strict=True):
        assert re.fullmatch(pattern, name)
        assert checked_key(f"adult#{name}/train.arrow")


def fault(*groups: str | None, min_rows: int = 2) -> str:
    with pytest.raises(InputError) as caught:
        cut(*groups, min_rows=min_rows)
    return str(caught.value).removeprefix("m.json: task 'adult', field 'group_by': ")


def test_what_cannot_be_cut_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault(None, None) == "no train row has a 'sex', expected the field that names its group."
    assert fault(*(f"text {n}" for n in range(1200)), min_rows=100) == (
        "none of the 1,200 values of 'sex' has 100 train rows ('min_rows'), expected one or more that do."
    )
    assert "has 1 train rows ('min_rows') and two labels, expected" in fault("men", min_rows=1)
    monkeypatch.setattr("gradsift.components.shared.data.suites.cutting.MAX_CUT_TASKS", 2)
    assert fault("a", "b", "c", "a", "b", "c") == (
        "3 values of 'sex' have 2 train rows or more, expected at most 2: a larger 'min_rows', or another field."
    )


@pytest.fixture
def cut_suite(suite: Any) -> Any:
    """The suite with `adult`, ten rows in groups of 4, 4 and 2 by their field `sex`, and two val rows."""
    sexes = ["female", "male"] * 4 + ["x", "y"]
    rows = [
        {"id": f"adult-{n}", "text": f"person {n}", "label": label, "sex": sex}
        for n, (sex, label) in enumerate(zip(sexes, [0, 0, 1, 1, 0, 0, 1, 1, 0, 1], strict=True))
    ]
    suite.write_rows("adult.train.jsonl", rows)
    held_out = [row | {"id": f"v{n}", "text": f"v{n}"} for n, row in enumerate(rows[:2])]
    suite.write_rows("adult.val.jsonl", held_out)
    suite.manifest["tasks"].insert(
        0,
        {
            "name": "adult",
            "labels": {"0": "low", "1": "high"},
            "group_by": "sex",
            "min_rows": 3,
            "splits": {split: {"file": f"adult.{split}.jsonl"} for split in ("train", "val")},
        },
    )
    return suite


def test_a_suite_offers_the_tasks_that_its_data_are_cut_into(cut_suite: Any) -> None:
    cut_tasks = ["adult#female", "adult#male", "adult#other"]
    assert [task.name for task in cut_suite.read().tasks] == [*cut_tasks, "books", "films", "books_flipped"]
    chosen = cut_suite.read(auxiliary_tasks=["books", "adult"]).tasks
    assert [task.name for task in chosen] == [*cut_tasks, "books", "films"]
    chosen = cut_suite.read(auxiliary_tasks=["adult#male"]).tasks
    assert [task.name for task in chosen] == ["adult#male", "films"]


def test_a_cut_task_may_be_the_target(cut_suite: Any) -> None:
    entry = cut_suite.task("adult")
    entry["splits"]["test"] = {"file": "adult.test.jsonl"}
    rows = cut_suite.rows("adult.val.jsonl")
    cut_suite.write_rows("adult.test.jsonl", [row | {"id": f"t{row['id']}", "text": "t"} for row in rows])
    read = cut_suite.read(target="adult#male", auxiliary_tasks=["adult"])
    assert [task.name for task in read.tasks] == ["adult#female", "adult#male", "adult#other"]
    assert {split: len(rows) for split, rows in read.tasks[1].splits.items()} == {
        "train": 4,
        "val": 1,
        "test": 1,
    }
    with pytest.raises(InputError) as caught:
        cut_suite.read(target="adult")
    assert str(caught.value) == (
        f"{cut_suite.folder}/manifest.json: the target 'adult' is cut into tasks by its field 'group_by', expected "
        "one of them as target, such as 'adult#other'."
    )
    cut_suite.manifest["tasks"] = [entry]
    cut_suite.write_rows("adult.train.jsonl", cut_suite.rows("adult.train.jsonl")[1:8:2])
    with pytest.raises(InputError, match="has no task but the target 'adult#male': expected one more"):
        cut_suite.read(target="adult#male")


def test_a_task_that_the_cut_does_not_give_is_named(cut_suite: Any) -> None:
    with pytest.raises(InputError) as caught:
        cut_suite.read(auxiliary_tasks=["adult#x"])
    assert str(caught.value) == (
        f"{cut_suite.folder}/manifest.json: task 'adult', cut by 'sex', gives no task 'adult#x': expected one of "
        "adult#female, adult#male, adult#other."
    )
    with pytest.raises(
        InputError, match=r"has no task 'books#x', which was given as auxiliary task: expected"
    ):
        cut_suite.read(auxiliary_tasks=["books#x"])


def test_a_value_that_is_no_text_is_named_with_its_row(cut_suite: Any) -> None:
    rows = cut_suite.rows("adult.train.jsonl")
    cut_suite.write_rows("adult.train.jsonl", [*rows, rows[0] | {"id": "new", "sex": ["male"]}])
    with pytest.raises(InputError, match=r"line 11 \(id 'new'\): 'sex' is \['male'\], expected a text"):
        cut_suite.read()


def test_a_corrupted_copy_of_cut_data_is_not_cut(cut_suite: Any) -> None:
    cut_suite.manifest["tasks"].append(
        {"name": "worse", "derived_from": "adult", "corruption": "shuffle_labels"}
    )
    assert len(cut_suite.read(auxiliary_tasks=["worse"]).tasks[1].splits["train"]) == 10


def test_the_manifest_alone_says_what_will_be_cut(cut_suite: Any) -> None:
    found = find_tasks(cut_suite.config())
    assert found.sentence == (
        "reviews has the target films and 2 auxiliary tasks and the tasks cut from adult to choose from"
    )
    offered = [name for name in ("books", "adult#male", "films", "songs") if found.may_have(name)]
    assert offered == ["books", "adult#male"]
    named = find_tasks(cut_suite.config(auxiliary_tasks=["adult#male"]))
    assert (named.auxiliary_tasks, named.cut_data) == (["adult#male"], [])


def test_cut_tasks_are_cleaned_and_written_like_others_to_s3_too(cut_suite: Any, s3_root: str) -> None:
    rows = cut_suite.rows("adult.train.jsonl")
    again = [rows[0] | {"id": "again"}, rows[1] | {"id": "leak", "text": "v0"}]
    cut_suite.write_rows("adult.train.jsonl", [*rows, *again])
    output = prepare_data(cut_suite.config(auxiliary_tasks=["adult"]), s3_root)
    data = PreparedData(fetch(output))
    assert data.auxiliary_tasks == ["adult#female", "adult#male", "adult#other"]
    assert output.metadata["removed_rows"] == 2
    assert data.column("adult#other", "train", "group") == ["x", "y"]
    assert data.split("adult#male", "train")["id"][:] == [f"adult-{n}" for n in (1, 3, 5, 7)]
