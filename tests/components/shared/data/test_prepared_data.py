"""The prepared data's one writer and one reader agree."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsift.components.shared.data.prepared_data import (
    INDEX,
    PreparedData,
    PreparedTask,
    has_conversations,
    write_index,
    write_places,
    write_split,
)
from gradsift.components.shared.errors import InputError

TEXT = st.text(st.characters(codec="utf-8"))
ROW = st.fixed_dictionaries(
    {"id": TEXT, "text": TEXT, "text_pair": st.none() | TEXT, "label": st.integers(0, 2**63 - 1)}
)
ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "one", "text_pair": None, "label": 1},
    {"id": "b", "text": "two", "text_pair": "zwei", "label": 0},
]


def prepared(folder: Path) -> PreparedData:
    tasks = [
        PreparedTask(name="films", labels=["bad", "good"], rows={"train": 2, "test": 2}, licence="MIT"),
        PreparedTask(name="books", labels=["schlecht", "süß"], rows={"train": 2}, corruption="flip_labels"),
    ]
    for task in tasks:
        for split in task.rows:
            write_split(folder, task.name, split, ROWS)
    write_index(folder, "reviews", "films", tasks)
    return PreparedData(folder)


def test_the_reader_returns_what_was_written(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    assert (data.suite, data.target, data.auxiliary_tasks) == ("reviews", "films", ["books"])
    assert data.task("books").labels == ["schlecht", "süß"]
    assert data.task("books").corruption == "flip_labels"
    assert data.task("films").licence == "MIT"
    assert data.split("films", "test").to_list() == ROWS


def test_a_part_of_a_task_is_some_rows_of_its_file(tmp_path: Path) -> None:
    whole = prepared(tmp_path)
    books = whole.task("books")
    part = books.model_copy(update={"name": "books#00", "rows": {"train": 1}, "part_of": "books"})
    write_places(tmp_path, part.name, "train", np.array([1]))
    write_index(tmp_path, "reviews", "films", [whole.task("films"), part])
    data = PreparedData(tmp_path)
    assert data.auxiliary_tasks == ["books#00"]
    assert data.split("books#00", "train").to_list() == ROWS[1:]
    assert data.whole_split("books#00", "train").to_list() == ROWS
    assert data.labels == whole.labels
    assert part.files("train") == ["books/train.arrow", "books#00/train.npy"]
    assert books.files("train", "val") == ["books/train.arrow", "books/val.arrow"]


@settings(max_examples=25)
@given(rows=st.lists(ROW, min_size=1, max_size=5))
def test_any_rows_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("round-trip")
    write_split(folder, "task", "train", rows)
    write_index(folder, "s", "task", [PreparedTask(name="task", labels=[], rows={"train": len(rows)})])
    assert PreparedData(folder).split("task", "train").to_list() == rows


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepared(tmp_path / name)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_optional_columns_are_written_where_a_task_has_them(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"group": "female", "time": None}, ROWS[1] | {"group": None, "time": None}]
    write_split(tmp_path, "films", "train", rows, columns=["group"])
    write_split(tmp_path, "books", "train", rows)
    task = PreparedTask(name="films", labels=["bad", "good"], rows={"train": 2}, columns=["group"])
    books = PreparedTask(name="books", labels=["bad", "good"], rows={"train": 2})
    write_index(tmp_path, "reviews", "films", [task, books])
    data = PreparedData(tmp_path)
    assert data.column("films", "train", "group") == ["female", None]
    assert data.split("books", "train").to_list() == ROWS
    assert [entry.get("columns") for entry in json.loads((tmp_path / INDEX).read_text())["tasks"]] == [
        ["group"],
        None,
    ]
    with pytest.raises(InputError, match="No row of task 'films' of suite 'reviews' has a 'time'"):
        data.column("films", "train", "time")


def test_only_a_split_with_conversations_has_their_columns(tmp_path: Path) -> None:
    plain = {"id": "a", "prompt": "p", "completion": "c", "rationale": None, "references": ["c"]}
    earlier = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    rows = [{**plain, "earlier": [], "all_turns": False}, {**plain, "earlier": earlier, "all_turns": True}]
    for name, content in {"chat": rows, "sums": rows[:1], "old": [plain]}.items():
        write_split(tmp_path, name, "train", content, "generation")
    tasks = [PreparedTask(name=name, labels=[], rows={"train": 1}) for name in ("chat", "sums", "old")]
    write_index(tmp_path, "s", "chat", tasks)
    data = PreparedData(tmp_path)
    assert data.split("chat", "train").to_list() == rows
    assert data.split("sums", "train").to_list() == [plain]
    old, new = ((tmp_path / name / "train.arrow").read_bytes() for name in ("old", "sums"))
    assert old == new
    assert [has_conversations(data.split(name, "train")) for name in ("chat", "sums")] == [True, False]


def test_a_task_or_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    with pytest.raises(InputError, match="no task 'songs' in the prepared data of suite 'reviews'"):
        data.task("songs")
    with pytest.raises(InputError, match="Task 'books' of suite 'reviews' has no rows in its val split"):
        data.split("books", "val")


def test_a_write_cut_short_by_the_system_keeps_the_old_split(tmp_path: Path) -> None:
    write_split(tmp_path, "task", "train", ROWS)
    old = (tmp_path / "task" / "train.arrow").read_bytes()
    program = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from gradsift.components.shared.data.prepared_data import write_split
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        rows = [{"id": str(i), "text": "x" * 100, "label": 0} for i in range(1000)]
        write_split(Path(sys.argv[1]), "task", "train", rows)
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False
    )
    assert f"StorageError: Cannot write {tmp_path}/task/train.arrow:" in result.stderr
    assert [path.name for path in (tmp_path / "task").iterdir()] == ["train.arrow"]
    assert (tmp_path / "task" / "train.arrow").read_bytes() == old
