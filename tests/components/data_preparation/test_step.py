"""The step as a whole: what it leaves, that it leaves the same every time, and what a failure leaves."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.storage import open_storage


def files(output: StepOutput) -> dict[str, bytes]:
    storage = open_storage(output.uri)
    return {key: storage.read(key) for key in storage.keys()}  # noqa: SIM118


def test_the_output_holds_the_cleaned_splits_of_the_tasks_in_use(suite: Any, tmp_path: Path) -> None:
    rows = suite.rows("films.train.jsonl")
    suite.write_rows("films.train.jsonl", [*rows, {**rows[0], "id": "again"}])
    output = prepare_data(suite.config(auxiliary_tasks=["books"]), str(tmp_path / "run"))
    data = PreparedData(fetch(output))
    assert (data.suite, data.target, data.auxiliary_tasks) == ("reviews", "films", ["books"])
    assert data.task("films").rows == {"train": 6, "val": 2, "test": 2}
    assert data.task("films").labels == ["negative", "positive"]
    assert data.task("books").licence == "MIT"
    assert data.split("films", "train")[1] == {
        "id": "films.train-1",
        "text": "films.train text 1",
        "text_pair": None,
        "label": 1,
    }
    assert output.metadata == {
        "suite": "reviews",
        "suite_digest": suite.read(auxiliary_tasks=["books"]).content_digest(),
        "target": "films",
        "max_length": 32,
        "tasks": 2,
        "train_rows": 10,
        "val_rows": 2,
        "test_rows": 2,
        "removed_rows": 1,
    }
    assert sorted(files(output)) == [
        "books/train.arrow",
        "films/test.arrow",
        "films/train.arrow",
        "films/val.arrow",
        "manifest.json",
        "statistics.json",
        "statistics.md",
        "tasks.json",
    ]


def test_groups_and_times_are_columns_of_the_tasks_that_have_them(suite: Any, tmp_path: Path) -> None:
    rows = suite.rows("books.train.jsonl")
    suite.write_rows("books.train.jsonl", [rows[0] | {"time": 2011}, *rows[1:]])
    folder = fetch(prepare_data(suite.config(auxiliary_tasks=["books"]), str(tmp_path / "run")))
    data = PreparedData(folder)
    assert data.column("books", "train", "time") == ["2011", None, None, None]
    assert [task.columns for task in data.tasks] == [["time"], []]
    books, films = json.loads((folder / "statistics.json").read_text())
    assert books["times"] == {"first": "2011", "last": "2011"}
    assert not {"groups", "times"} & {*films, *books} - {"times"}


def test_an_auxiliary_tasks_held_out_rows_are_not_written_but_guard_train_rows(
    suite: Any, tmp_path: Path
) -> None:
    rows = suite.rows("films.train.jsonl")
    suite.write_rows("books.val.jsonl", [{"id": "v", "text": rows[0]["text"].upper(), "label": 0}])
    output = prepare_data(suite.config(), str(tmp_path / "run"))
    data = PreparedData(fetch(output))
    assert data.task("books").rows == {"train": 4}
    assert rows[0]["text"] not in data.split("films", "train")["text"]
    statistics = json.loads((Path(output.uri) / "statistics.json").read_text())
    assert statistics[1]["removed"]["train"] == {"in_val_or_test": 1}
    assert "| films (target) | 5 | 2 | 2 |" in (Path(output.uri) / "statistics.md").read_text()


def test_a_corrupted_copy_is_marked(suite: Any, tmp_path: Path) -> None:
    data = PreparedData(fetch(prepare_data(suite.config(), str(tmp_path / "run"))))
    assert [task.corruption for task in data.tasks] == [None, None, "flip_labels"]
    assert data.split("books_flipped", "train")["label"][:2] == [1, 0]


def test_the_same_data_gives_the_same_bytes_wherever_it_lies(
    suite: Any, tmp_path: Path, s3_root: str
) -> None:
    config = suite.config(max_rows_per_task=4, seed=3)
    first = prepare_data(config, str(tmp_path / "one"))
    second = prepare_data(config, str(tmp_path / "two"))
    for path in suite.folder.iterdir():
        open_storage(f"{s3_root}/suite").upload(path, path.name)
    remote = prepare_data(
        suite.config(suite=f"{s3_root}/suite", max_rows_per_task=4, seed=3), f"{s3_root}/run"
    )
    assert first.digest == second.digest == remote.digest
    assert files(first) == files(second) == files(remote)
    assert not remote.reused


def test_an_unchanged_suite_is_not_prepared_again(suite: Any, tmp_path: Path) -> None:
    first = prepare_data(suite.config(), str(tmp_path / "run"))
    second = prepare_data(suite.config(auxiliary_tasks=["books_flipped", "books"]), str(tmp_path / "run"))
    assert second.reused
    assert second.uri == first.uri


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_rows_per_task": 4}, {"auxiliary_tasks": ["books"]}])
def test_other_settings_make_another_output(suite: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    first = prepare_data(suite.config(), str(tmp_path / "run"))
    assert prepare_data(suite.config(**change), str(tmp_path / "run")).uri != first.uri


def test_a_changed_file_makes_another_output(suite: Any, tmp_path: Path) -> None:
    first = prepare_data(suite.config(), str(tmp_path / "run"))
    rows = suite.rows("books.val.jsonl")
    suite.write_rows("books.val.jsonl", [{**rows[0], "text": "changed"}, *rows[1:]])
    second = prepare_data(suite.config(), str(tmp_path / "run"))
    assert not second.reused
    assert second.uri != first.uri


def test_wrong_data_leaves_no_output(suite: Any, tmp_path: Path) -> None:
    suite.write_rows("books.train.jsonl", [{"id": "a", "text": "only", "label": 1}])
    with pytest.raises(InputError, match="holds rows of one label only, 'positive'"):
        prepare_data(suite.config(), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "data_preparation").exists()


def test_val_rows_of_one_label_are_refused_for_the_target_alone(suite: Any, tmp_path: Path) -> None:
    rows = suite.rows("books.val.jsonl")
    suite.write_rows("books.val.jsonl", [{**row, "label": 0} for row in rows])
    prepare_data(suite.config(), str(tmp_path / "run"))
    rows = suite.rows("films.val.jsonl")
    suite.write_rows("films.val.jsonl", [{**row, "label": 0} for row in rows])
    with pytest.raises(
        InputError, match="the val split of task 'films' holds rows of one label only, 'negative'"
    ):
        prepare_data(suite.config(), str(tmp_path / "run"))


def test_a_disk_that_fills_up_is_reported_and_the_step_can_be_run_again(suite: Any, tmp_path: Path) -> None:
    """The kernel refuses to let any file grow past 500 bytes, less than an Arrow file has."""
    config = suite.config()
    program = textwrap.dedent(
        """
        import resource, sys
        from gradsift.components.shared.parameters.data import DataPreparationConfig
        from gradsift.components.data_preparation.step import prepare_data
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        prepare_data(DataPreparationConfig(suite=sys.argv[1], target="films"), sys.argv[2])
        """
    )
    root = tmp_path / "run"
    result = subprocess.run(
        [sys.executable, "-c", program, suite.folder, root], capture_output=True, text=True, check=False
    )
    assert f"StorageError: Cannot write {root}/work/" in result.stderr.splitlines()[-1]
    assert not (root / "data_preparation").exists()
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert prepare_data(config, str(root)).metadata["train_rows"] == 14


def test_no_model_library_is_imported(suite: Any, tmp_path: Path) -> None:
    suite.config()
    program = textwrap.dedent(
        """
        import sys
        from gradsift.components.shared.parameters.data import DataPreparationConfig
        from gradsift.components.data_preparation.step import prepare_data
        prepare_data(DataPreparationConfig(suite=sys.argv[1], target="films"), sys.argv[2])
        assert not {"torch", "transformers", "datasets"} & sys.modules.keys()
        """
    )
    subprocess.run([sys.executable, "-c", program, suite.folder, tmp_path / "run"], check=True)
