"""Tokenised rows: what the model's `encode` gives, computed once, and mapped into memory."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from tiny_language_models import make_base, write_prepared_data

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.training import tokenised_rows as module
from gradsift.components.shared.training.tokenised_rows import tokenised_rows

TASKS = ["size", "next", "before"]


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    return PreparedData(write_prepared_data(tmp_path / "counting"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "gpt2", "gpt2")


def model_of(base: Path, data: PreparedData, max_length: int = 64) -> TaskModel:
    return from_base(ModelConfig(base_model=str(base), max_length=max_length), data)


def files(data: PreparedData) -> set[Path]:
    return {
        path for path in data.folder.parent.rglob("*") if path.is_file() and data.folder not in path.parents
    }


def never(*_: object) -> None:
    raise AssertionError("A row was tokenised again.")


def test_a_language_models_rows_are_those_of_its_encode(base: Path, data: PreparedData) -> None:
    model = model_of(base, data)
    expected = [row for task in TASKS for row in model.encode(data.split(task, "train"), task)]
    assert tokenised_rows(model, data, TASKS).to_list() == expected


def test_an_encoders_rows_are_those_of_its_encode(tiny_encoder: Path, prepared_data: StepOutput) -> None:
    data = PreparedData(fetch(prepared_data))
    model, tasks = model_of(tiny_encoder, data, 16), ["trec", "sst2"]
    expected = [row for task in tasks for row in model.encode(data.split(task, "train"), task)]
    assert tokenised_rows(model, data, tasks).to_list() == expected


def test_rows_are_tokenised_in_batches_of_bounded_size(
    base: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(base, data)
    expected = tokenised_rows(model, data, TASKS).to_list()
    for path in files(data):
        path.unlink()
    monkeypatch.setattr(module, "BATCH_ROWS", 5)
    sizes: list[int] = []
    encode = type(model).encode

    def counted(self: TaskModel, rows: dict[str, list[str]], task: str) -> list[dict[str, object]]:
        sizes.append(len(rows["id"]))
        return encode(self, rows, task)

    monkeypatch.setattr(type(model), "encode", counted)
    assert tokenised_rows(model, data, TASKS).to_list() == expected
    assert sizes == [5, 5, 5, 1] * 3


def test_every_task_is_tokenised_once_and_mapped_from_a_file_beside_the_data(
    base: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(base, data)
    first = tokenised_rows(model, data, ["next", "size"])
    expected = tokenised_rows(model, data, TASKS).to_list()
    monkeypatch.setattr(type(model), "encode", never)
    again = tokenised_rows(model_of(base, data), data, TASKS)
    assert again.to_list() == expected
    assert [len(first), len(again)] == [32, 48]
    assert {Path(file["filename"]) for file in again.cache_files} == files(data)
    assert {path.name for path in files(data)} == {"next.arrow", "size.arrow", "before.arrow"}
    assert {path.parent.parent.name for path in files(data)} == {"counting.tokenised"}
    assert again.data.nbytes > 0


@pytest.mark.parametrize("change", ["length", "tokenizer", "labels", "code"])
def test_rows_of_another_length_tokenizer_label_or_code_are_tokenised_again(
    base: Path, data: PreparedData, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenised_rows(model_of(base, data), data, TASKS)
    before = files(data)
    length = 60 if change == "length" else 64
    if change == "tokenizer":
        base = make_base(tmp_path / "other", "gpt2", padding=False)
        before |= files(data)
    if change == "labels":
        data.tasks[2].labels[1] = "many"
    if change == "code":
        monkeypatch.setattr(module, "module_digest", lambda name: f"another {name}")
    model = model_of(base, data, length)
    found = tokenised_rows(model, data, TASKS)
    assert found.to_list() == [row for task in TASKS for row in model.encode(data.split(task, "train"), task)]
    assert len(files(data) - before) == 3


def test_a_row_that_does_not_fit_leaves_no_file_of_its_task(base: Path, data: PreparedData) -> None:
    with pytest.raises(
        InputError, match=r"Row 'next-train-\d+' of task 'next' has a completion that does not fit"
    ):
        tokenised_rows(model_of(base, data, 8), data, ["next"])
    assert files(data) == set()


def test_processes_at_the_same_time_find_the_same_rows(base: Path, data: PreparedData) -> None:
    model = model_of(base, data)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.starmap(tokenise, [(model, data)] * 4, chunksize=1)
    assert found == [tokenised_rows(model, data, TASKS).to_list()] * 4
    assert {path.name for path in files(data)} == {"next.arrow", "size.arrow", "before.arrow"}


def tokenise(model: TaskModel, data: PreparedData) -> list[Any]:
    rows: list[Any] = tokenised_rows(model, data, TASKS).to_list()
    return rows
