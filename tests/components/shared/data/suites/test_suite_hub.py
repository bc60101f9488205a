"""Datasets are loaded by the Hugging Face library itself, from local folders."""

from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from gradsift.components.shared.data.suites.suite_hub import HubSuite
from gradsift.components.shared.data.suites.task import GenerationRow, Row, Task
from gradsift.components.shared.data.suites.task_suite import read_suite
from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.storage.storage import open_storage

LABELS = {0: "negative", 1: "positive"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def csv_folder(tmp_path: Path) -> str:
    """A dataset of CSV files: 3 train, 2 validation and 2 test rows with a text in `sentence`."""
    folder = tmp_path / "csv"
    folder.mkdir()
    for split, size in {"train": 3, "validation": 2, "test": 2}.items():
        lines = [f'"{split}, text {n}",{n % 2},more {n}' for n in range(size)]
        (folder / f"{split}.csv").write_text("\n".join(["sentence,sentiment,second", *lines]) + "\n")
    return str(folder)


def entry(dataset: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "films",
        "dataset": dataset,
        "text": "sentence",
        "label": "sentiment",
        "labels": LABELS,
        "splits": {"train": "train", "val": "validation", "test": "test"},
        **changes,
    }


def write_suite(folder: Path, *tasks: dict[str, Any]) -> str:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"suite": "hub", "tasks": list(tasks)}))
    return str(path)


def read_task(address: str, name: str = "films") -> Task:
    suite = HubSuite(address)
    return suite.read(suite.manifest.own_tasks()[name], ("train", "val", "test"))


def test_a_dataset_of_csv_files_becomes_a_task(csv_folder: str, tmp_path: Path) -> None:
    task = read_task(write_suite(tmp_path, entry(csv_folder, licence="MIT", text_pair="second")))
    assert (task.labels, task.licence) == (["negative", "positive"], "MIT")
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 3, "val": 2, "test": 2}
    assert task.splits["val"][1] == Row("films-val-2", "validation, text 1", "more 1", 1)


def test_a_dataset_with_prompts_becomes_a_generation_task(tmp_path: Path) -> None:
    columns = {
        "question": ["1+1=", "2+2="],
        "answer": ["2", "4"],
        "why": [None, "two twos"],
        "all": [["two", "2"], None],
    }
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "sums" / "train.parquet")
    task = {
        "name": "sums",
        "dataset": str(tmp_path / "sums"),
        "prompt": "question",
        "completion": "answer",
        "rationale": "why",
        "references": "all",
        "splits": {"train": "train"},
    }
    found = read_task(write_suite(tmp_path, task), "sums")
    assert (found.kind, found.labels) == ("generation", [])
    assert found.splits["train"] == [
        GenerationRow("sums-train-1", "1+1=", "2", None, ["2", "two"]),
        GenerationRow("sums-train-2", "2+2=", "4", "two twos", ["4"]),
    ]


def test_a_dataset_of_conversations_needs_one_column(tmp_path: Path) -> None:
    said = [
        ("system", "be brief"),
        ("user", "1+1="),
        ("assistant", "2"),
        ("user", "2+2="),
        ("assistant", "4"),
    ]
    messages = [{"role": role, "content": content} for role, content in said]
    columns = {"messages": [messages, messages[1:3]], "prompt_id": ["a", "b"]}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "sums" / "train.parquet")
    splits = {"train": "train"}
    task = {"name": "sums", "dataset": str(tmp_path / "sums"), "messages": "messages", "splits": splits}
    found = read_task(write_suite(tmp_path, task), "sums")
    assert found.kind == "generation"
    earlier = tuple(messages[:3])
    assert found.splits["train"] == [
        GenerationRow("sums-train-1", "2+2=", "4", None, ["4"], earlier, all_turns=True),
        GenerationRow("sums-train-2", "1+1=", "2", None, ["2"]),
    ]


def test_groups_and_times_come_from_the_columns_that_are_named(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "sentence": datasets.Value("string"),
            "sentiment": datasets.Value("int64"),
            "publisher": datasets.ClassLabel(names=["daily", "weekly"]),
            "published": datasets.Value("timestamp[s]"),
        }
    )
    columns = {
        "sentence": ["a", "b", "c"],
        "sentiment": [0, 1, 0],
        "publisher": [1, None, 0],
        "published": [datetime(2011, 2, 16, 12), None, datetime(2012, 1, 1)],
    }
    datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / "news" / "train.parquet")
    named = entry(str(tmp_path / "news"), group="publisher", time="published", splits={"train": "train"})
    rows = read_task(write_suite(tmp_path, named)).splits["train"]
    assert [(row.group, row.time) for row in rows] == [
        ("weekly", "2011-02-16T12:00:00"),
        (None, None),
        ("daily", "2012-01-01T00:00:00"),
    ]


def test_a_column_can_cut_a_dataset_into_tasks(tmp_path: Path) -> None:
    columns = {
        "instruction": [f"say {n}" for n in range(7)],
        "output": [f"{n}" for n in range(7)],
        "source": ["flan", "code alpaca", "flan", None, "code alpaca", "flan", "rare"],
    }
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "alpaca" / "train.parquet")
    alpaca = {
        "name": "alpaca",
        "dataset": str(tmp_path / "alpaca"),
        "prompt": "instruction",
        "completion": "output",
        "group_by": "source",
        "min_rows": 2,
        "splits": {"train": "train"},
    }
    target = alpaca | {"name": "t", "splits": dict.fromkeys(("train", "val", "test"), "train")}
    del target["group_by"], target["min_rows"]
    config = DataPreparationConfig(suite=write_suite(tmp_path, target, alpaca), target="t")
    tasks = {task.name: [row.id for row in task.splits["train"]] for task in read_suite(config).tasks[1:]}
    assert tasks == {
        "alpaca#code-alpaca": ["alpaca-train-2", "alpaca-train-5"],
        "alpaca#flan": ["alpaca-train-1", "alpaca-train-3", "alpaca-train-6"],
        "alpaca#other": ["alpaca-train-4", "alpaca-train-7"],
    }
    alpaca["group_by"] = "origin"
    assert fault(write_suite(tmp_path, alpaca), "alpaca") == (
        f"{tmp_path}/suite.yaml: task 'alpaca', field 'group_by': the dataset {str(tmp_path / 'alpaca')!r} has no "
        "column 'origin', expected one of instruction, output, source."
    )


def test_part_of_a_split_can_be_named(csv_folder: str, tmp_path: Path) -> None:
    splits = {"train": "train[:2]", "val": "train[2:]"}
    task = read_task(write_suite(tmp_path, entry(csv_folder, splits=splits)))
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 2, "val": 1}


def test_a_configuration_of_the_dataset_can_be_named(csv_folder: str, tmp_path: Path) -> None:
    configs = "".join(f"- config_name: {n}\n  data_files: {n}.csv\n" for n in ("train", "test"))
    (Path(csv_folder) / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    task = read_task(write_suite(tmp_path, entry(csv_folder, config="test", splits={"train": "train"})))
    assert [row.text for row in task.splits["train"]] == ["test, text 0", "test, text 1"]


def test_the_revision_is_asked_for(csv_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    load = datasets.load_dataset

    def listen(*arguments: Any, **settings: Any) -> Any:
        asked.append(settings["revision"])
        return load(*arguments, **settings)

    monkeypatch.setattr(datasets, "load_dataset", listen)
    read_task(write_suite(tmp_path, entry(csv_folder, revision="v1.0", splits={"train": "train"})))
    assert asked == ["v1.0"]


def test_labels_come_from_the_class_labels_where_none_are_given(tmp_path: Path) -> None:
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "sentiment": datasets.ClassLabel(names=["bad", "good"])}
    )
    data = datasets.Dataset.from_dict({"sentence": ["a", "b"], "sentiment": [1, 0]}, features)
    data.to_parquet(tmp_path / "parquet" / "train.parquet")
    task = read_task(
        write_suite(tmp_path, entry(str(tmp_path / "parquet"), labels={}, splits={"train": "train"}))
    )
    assert task.labels == ["bad", "good"]
    assert [row.label for row in task.splits["train"]] == [1, 0]


def test_labels_that_are_words_are_matched_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "train.jsonl").write_text(
        '{"sentence": "a", "sentiment": "pos"}\n{"sentence": "b", "sentiment": "neg"}\n'
    )
    labels = {"neg": "negative", "pos": "positive"}
    address = write_suite(tmp_path, entry(str(tmp_path / "json"), labels=labels, splits={"train": "train"}))
    assert [row.label for row in read_task(address).splits["train"]] == [1, 0]


def test_a_suite_of_datasets_works_like_one_of_files(csv_folder: str, tmp_path: Path) -> None:
    other = entry(csv_folder, name="other", splits={"train": "test"})
    flipped = {"name": "flipped", "derived_from": "other", "corruption": "flip_labels"}
    address = write_suite(tmp_path, entry(csv_folder), other, flipped)
    config = DataPreparationConfig(suite=address, target="films")
    suite = read_suite(config)
    assert (suite.name, [task.name for task in suite.tasks]) == ("hub", ["films", "other", "flipped"])
    assert [row.label for row in suite.tasks[2].splits["train"]] == [1, 0]
    assert read_suite(config).content_digest() == suite.content_digest()


def test_a_changed_dataset_is_read_again(csv_folder: str, tmp_path: Path) -> None:
    address = write_suite(tmp_path, entry(csv_folder))
    before = read_task(address)
    (Path(csv_folder) / "train.csv").write_text("sentence,sentiment,second\nchanged,1,x\nmore,0,x\n")
    after = read_task(address)
    assert [row.text for row in after.splits["train"]] == ["changed", "more"]
    assert after.splits["val"] == before.splits["val"]


def test_the_yaml_may_lie_in_s3_or_beside_the_process(
    csv_folder: str, tmp_path: Path, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = write_suite(tmp_path, entry(csv_folder))
    open_storage(s3_root).upload(Path(address), "suite.yaml")
    monkeypatch.chdir(tmp_path)
    assert read_task(f"{s3_root}/suite.yaml") == read_task("suite.yaml") == read_task(address)


def fault(address: str, name: str = "films") -> str:
    with pytest.raises(InputError) as caught:
        read_task(address, name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_yaml_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=rf"Cannot read {tmp_path}/none\.yaml: it does not exist"):
        HubSuite(f"{tmp_path}/none.yaml")


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\xfd", b"a: !!python/object:os.system {}"])
def test_what_is_not_plain_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "suite.yaml").write_bytes(content)
    assert fault(str(tmp_path / "suite.yaml")).startswith(f"{tmp_path}/suite.yaml is not valid YAML")


def test_a_yaml_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text("- a")
    assert "holds list, expected an object with 'suite' and 'tasks'" in fault(str(tmp_path / "suite.yaml"))


def test_a_dataset_out_of_reach_is_named(tmp_path: Path) -> None:
    for dataset in ("nobody/nothing", str(tmp_path / "nowhere")):
        address = write_suite(tmp_path, entry(dataset))
        assert fault(address).startswith(
            f"{address}: task 'films': split 'train' of the dataset {dataset!r} cannot be loaded, expected a "
            "dataset on the hub or a local folder ("
        )


def test_a_dataset_that_cannot_be_parsed_is_named_with_the_reason(csv_folder: str, tmp_path: Path) -> None:
    (Path(csv_folder) / "train.csv").write_bytes(b"sentence,sentiment\ncaf\xe9,1\n")
    message = fault(write_suite(tmp_path, entry(csv_folder)))
    assert "can't decode byte 0xe9" in message


@pytest.mark.parametrize("dataset", ["csv", "pandas", ""])
def test_a_bare_name_is_not_taken_for_a_file_loader(tmp_path: Path, dataset: str) -> None:
    address = write_suite(tmp_path, entry(dataset))
    assert f"task 'films', field 'dataset': the dataset {dataset!r} is not allowed" in fault(address)


def test_an_unknown_split_is_named(csv_folder: str, tmp_path: Path) -> None:
    message = fault(write_suite(tmp_path, entry(csv_folder, splits={"train": "dev"})))
    assert "task 'films': split 'dev' of the dataset" in message
    assert "Unknown split" in message


@pytest.mark.parametrize("field", ["text", "text_pair", "label", "group", "time"])
def test_an_unknown_column_is_named(csv_folder: str, tmp_path: Path, field: str) -> None:
    message = fault(write_suite(tmp_path, entry(csv_folder, **{field: "no such column"})))
    assert message == (
        f"{tmp_path}/suite.yaml: task 'films', field {field!r}: the dataset {csv_folder!r} has no column "
        "'no such column', expected one of sentence, sentiment, second."
    )


def test_labels_that_nobody_names_are_asked_for(csv_folder: str, tmp_path: Path) -> None:
    assert fault(write_suite(tmp_path, entry(csv_folder, labels={}))) == (
        f"{tmp_path}/suite.yaml: task 'films', field 'labels' is missing and column 'sentiment' of the "
        f"dataset {csv_folder!r} names no labels: expected words for each label id."
    )


def test_an_unknown_label_and_an_empty_text_are_named_with_their_row(csv_folder: str, tmp_path: Path) -> None:
    address = write_suite(tmp_path, entry(csv_folder, labels={0: "negative", 2: "positive"}))
    assert fault(address) == (
        f"Dataset {csv_folder!r}, split 'train', row 2 (id 'films-train-2'): 'label' is 1, expected one of "
        "the task's labels: 0, 2."
    )
    (Path(csv_folder) / "train.csv").write_text("sentence,sentiment,second\na,1,x\n,0,x\n")
    message = fault(write_suite(tmp_path, entry(csv_folder)))
    assert f"Dataset {csv_folder!r}, split 'train', row 2 (id 'films-train-2'): 'text' is missing" in message


def test_a_split_without_rows_is_named(csv_folder: str, tmp_path: Path) -> None:
    (Path(csv_folder) / "validation.csv").write_text("sentence,sentiment,second\n")
    message = fault(write_suite(tmp_path, entry(csv_folder)))
    assert f"task 'films': split 'validation' of the dataset {csv_folder!r} cannot be loaded" in message
    assert "corresponds to no data" in message
