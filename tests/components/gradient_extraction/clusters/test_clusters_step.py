"""Cutting prepared data with planted gradients: what later steps read of it, and that it is done once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_store import store_header

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.gradient_extraction.clusters import step
from gradsift.components.gradient_extraction.clusters.step import cut_sources
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import INDEX, STATISTICS, PreparedData
from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.models.mixture import write_mixture
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.extraction import ExtractionSettings
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.records.source_clusters import SourceClusters
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.tokenised_rows import tokenised_rows

SETTINGS = ExtractionSettings(cluster_sources=2)
DIMENSION = 8


def small_suite(folder: Path) -> Path:
    """Write a suite whose source `mixed` has 35 rows on fish and 25 on cars, of both labels, and a small one."""
    folder.mkdir()
    topics = ["fish"] * 35 + ["cars"] * 25
    np.random.default_rng(0).shuffle(topics)
    sizes = {"target.train": 4, "target.val": 4, "target.test": 4, "small.train": 30}
    files = {
        name: [{"id": f"{name}-{i}", "text": f"{name} number {i}", "label": i % 2} for i in range(size)]
        for name, size in sizes.items()
    }
    files["mixed.train"] = [
        {"id": f"{topic}-{i}", "text": f"the {topic} of day {i}", "label": i % 2}
        for i, topic in enumerate(topics)
    ]
    tasks: dict[str, Any] = {}
    for name, rows in files.items():
        task, split = name.split(".")
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        entry = tasks.setdefault(task, {"name": task, "labels": {"0": "no", "1": "yes"}, "splits": {}})
        entry["splits"][split] = {"file": f"{name}.jsonl"}
    (folder / "manifest.json").write_text(json.dumps({"suite": "topics", "tasks": list(tasks.values())}))
    return folder


def planted_store(data: StepOutput, folder: Path) -> StepOutput:
    """Write a gradient store in which rows on fish and rows on cars have gradients along two lines."""
    prepared = PreparedData(fetch(data))
    header = store_header(dimension=DIMENSION, blocks=1, data_digest=data.digest, shard_rows=16)
    generator = np.random.default_rng(1)
    splits: list[tuple[str, Any]] = [*((task.name, "train") for task in prepared.tasks), ("target", "val")]
    records = []
    with GradientStoreWriter(open_storage(str(folder)), header) as writer:
        for task, split in splits:
            rows = prepared.split(task, split)
            line = np.array([[0, 1] if row["id"].startswith("cars") else [1, 0] for row in rows])
            gradient = np.pad(
                line * (2 * np.array(rows["label"][:])[:, None] - 1), ((0, 0), (0, DIMENSION - 2))
            )
            gradient = (gradient + 0.1 * generator.normal(size=gradient.shape)).astype(np.float32)
            for index, first in enumerate(range(0, len(rows), 16)):
                own = gradient[first : first + 16]
                zeros = np.zeros(len(own), np.float32)
                ids = rows["id"][first : first + 16]
                shard = Shard(ids, np.full_like(zeros, np.log(2)), zeros, zeros, own, own[:, None])
                records.append(writer.write_shard(task, split, index, shard))
        digest = writer.seal(records)
    return StepOutput(str(folder), digest, {"suite": "topics"})


def cut(root: Path, data: StepOutput, gradients: StepOutput) -> tuple[StepOutput, StepOutput]:
    with track_step("cut", str(root), {}) as tracker:
        return cut_sources(SETTINGS, data, gradients, str(root), tracker)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def data(root: Path) -> StepOutput:
    return prepare_data(
        DataPreparationConfig(suite=str(small_suite(root / "suite")), target="target"), str(root)
    )


@pytest.fixture(scope="module")
def gradients(root: Path, data: StepOutput) -> StepOutput:
    return planted_store(data, root / "store")


@pytest.fixture(scope="module")
def outputs(root: Path, data: StepOutput, gradients: StepOutput) -> tuple[StepOutput, StepOutput]:
    return cut(root, data, gradients)


def topics(ids: list[str]) -> set[str]:
    return {row_id.split("-")[0] for row_id in ids}


def test_a_mixed_source_becomes_a_source_for_each_kind_of_row(
    outputs: tuple[StepOutput, StepOutput], data: StepOutput
) -> None:
    whole, parts = PreparedData(fetch(data)), PreparedData(fetch(outputs[0]))
    assert [task.name for task in parts.tasks] == ["target", "small", "mixed#00", "mixed#01"]
    assert [len(parts.split(name, "train")) for name in ("mixed#00", "mixed#01")] == [35, 25]
    assert topics(parts.split("mixed#00", "train")["id"][:]) == {"fish"}
    assert topics(parts.split("mixed#01", "train")["id"][:]) == {"cars"}
    assert set(parts.split("mixed#01", "train")["label"][:]) == {0, 1}
    for split in ("train", "val", "test"):
        assert parts.split("target", split).to_list() == whole.split("target", split).to_list()
    assert parts.labels == whole.labels
    store = GradientStore(outputs[1].uri, outputs[1].digest)
    store.check_origin(data_digest=outputs[0].digest)
    for name in ("mixed#00", "mixed#01"):
        ids = [each for shard in store.read(name, "train") for each in shard.example_id]
        assert ids == parts.split(name, "train")["id"][:]


def test_no_row_lies_on_the_disk_a_second_time(
    outputs: tuple[StepOutput, StepOutput], data: StepOutput
) -> None:
    one, other = (Path(fetch(each)) / "mixed" / "train.arrow" for each in (data, outputs[0]))
    assert one.samefile(other)
    assert not list(Path(outputs[0].uri).glob("mixed#*/*.arrow"))


def test_the_record_shows_what_is_typical_of_each_cluster(outputs: tuple[StepOutput, StepOutput]) -> None:
    folder = fetch(outputs[0])
    record = SourceClusters.read(folder)
    assert record.whole == ["small"]
    [mixed] = record.cut
    assert [each.rows for each in mixed.clusters] == [35, 25]
    assert all("cars" in row.text and row.answer in {"no", "yes"} for row in mixed.clusters[1].typical)
    assert sum(mixed.clusters[0].labels.values()) == 35
    entries = {entry["task"]: entry for entry in json.loads((folder / STATISTICS).read_text())}
    assert entries["mixed"]["role"] == "cut"
    assert entries["mixed#01"]["rows"] == {"train": 25}


def test_the_same_cut_comes_out_again_and_is_made_once(
    root: Path,
    tmp_path: Path,
    data: StepOutput,
    gradients: StepOutput,
    outputs: tuple[StepOutput, StepOutput],
) -> None:
    again = cut(root, data, gradients)
    assert again[0].reused
    elsewhere = cut(tmp_path, data, gradients)
    assert [each.digest for each in elsewhere] == [each.digest for each in again]
    assert [each.digest for each in again] == [each.digest for each in outputs]


def test_an_exported_cluster_has_its_rows_alone(
    outputs: tuple[StepOutput, StepOutput], tmp_path: Path
) -> None:
    write_mixture(tmp_path, outputs[0], ["mixed#01"])
    lines = (tmp_path / "mixture" / "data" / "mixed#01.jsonl").read_text().splitlines()
    assert len(lines) == 25
    assert all("cars" in json.loads(line)["prompt"] for line in lines)
    listed = json.loads((tmp_path / "mixture" / "mixture.json").read_text())
    assert [(task["name"], task["rows"]) for task in listed["tasks"]] == [("target", 4), ("mixed#01", 25)]


def test_training_reads_a_cluster_from_the_tokens_of_its_source(
    outputs: tuple[StepOutput, StepOutput], tiny_encoder: Path
) -> None:
    """The model knows the source alone: its head has no class and no task of a cluster."""
    from gradsift.components.shared.models.model_loading import from_base

    data = PreparedData(fetch(outputs[0]))
    model = from_base(ModelConfig(base_model=str(tiny_encoder), max_length=16), data)
    assert model.task_names == ["target", "small", "mixed"]
    examples = tokenised_rows(model, data, ["target", "mixed#01"])
    expected = model.encode(data.split("mixed#01", "train"), "mixed")
    assert len(examples) == 29
    assert [examples[4 + row]["input_ids"] for row in range(25)] == [each["input_ids"] for each in expected]
    assert {examples[4 + row]["task"] for row in range(25)} == {2}
    [cache] = data.folder.with_name(f"{data.folder.name}.tokenised").iterdir()
    assert {path.name for path in cache.iterdir()} == {"target.arrow", "mixed.arrow"}


def test_a_second_store_is_cut_alike(root: Path, data: StepOutput, gradients: StepOutput) -> None:
    both = {**gradients.metadata, "base_uri": gradients.uri, "base_digest": gradients.digest}
    found = cut(root, data, replace(gradients, metadata=both))[1]
    assert (found.metadata["base_uri"], found.metadata["base_digest"]) == (found.uri, found.digest)


def test_a_cut_that_was_killed_is_continued(
    data: StepOutput, gradients: StepOutput, tmp_path: Path, outputs: tuple[StepOutput, StepOutput]
) -> None:
    """A first try ends before anything is published, a second one while the store is written."""
    killed = pytest.raises(KeyboardInterrupt)
    for name in ("write_index", "write_cut_store"):
        with killed, pytest.MonkeyPatch.context() as patch:
            patch.setattr(step, name, interrupted)
            cut(tmp_path, data, gradients)
    assert [each.digest for each in cut(tmp_path, data, gradients)] == [each.digest for each in outputs]


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_off_nothing_is_said_of_clusters(data: StepOutput) -> None:
    index = json.loads((fetch(data) / INDEX).read_text())
    assert all("part_of" not in task for task in index["tasks"])
    assert "cluster_sources" not in ExtractionSettings().model_dump()
    assert SETTINGS.clusters_of(39) == 1 < SETTINGS.clusters_of(40) == 2 == SETTINGS.clusters_of(10**6)
