"""Meta-training as a step: it trains on every task, once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forked_training import forked_training
from kfp import dsl

from gradsift.components.meta_training.component import meta_train as meta_train_component
from gradsift.components.meta_training.step import STEP, meta_train
from gradsift.components.shared.artifacts.run_outputs import write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.trained_model import training_result

RECIPE = TrainingRecipe(steps=3, batch_size=8, precision="float32", processes=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def model(tiny_encoder: Path) -> ModelConfig:
    return ModelConfig(base_model=str(tiny_encoder))


def run(
    root: Path,
    model: ModelConfig,
    recipe: TrainingRecipe,
    data: StepOutput,
    sampling: MetaSampling | None = None,
) -> StepOutput:
    with forked_training(), track_step(STEP, str(root), {}) as tracker:
        return meta_train(model, recipe, data, str(root), tracker, sampling=sampling)


@pytest.fixture(scope="module")
def output(root: Path, model: ModelConfig, prepared_data: StepOutput) -> StepOutput:
    return run(root, model, RECIPE, prepared_data)


def events(root: Path) -> list[dict[str, Any]]:
    return read_events((root / "tracking" / "local" / f"{STEP}.jsonl").read_bytes())


def launches(root: Path) -> list[Path]:
    return sorted(root.rglob("training.log"))


def test_the_model_is_trained_on_every_task(output: StepOutput, prepared_data: StepOutput) -> None:
    tasks = [task.name for task in PreparedData(fetch(prepared_data)).tasks]
    assert sorted(tasks) == ["mr", "mr_flipped", "sst2", "trec"]
    assert training_result(output)["tasks"] == tasks
    loaded = EncoderClassifier.load(fetch(output))
    assert loaded.head.task_names == tasks
    assert loaded.head.tasks["mr"] == loaded.head.tasks["mr_flipped"]


def test_the_metadata_says_what_was_trained_from_what(
    output: StepOutput, model: ModelConfig, prepared_data: StepOutput
) -> None:
    base = find_base_model(model.base_model)
    assert output.metadata == {
        "suite": prepared_data.metadata["suite"],
        "target": "sst2",
        "base_model": model.base_model,
        "base_model_digest": base.digest,
        "tokenizer_digest": base.tokenizer_digest,
        "train_embeddings": False,
        "train_rows": 128,
        "optimizer_steps": 3,
        "final_train_loss": training_result(output)["losses"][-1][1],
    }


def test_the_data_is_recorded_task_by_task(output: StepOutput, root: Path, prepared_data: StepOutput) -> None:
    found = [event for event in events(root) if event["event"] == "dataset"][:4]
    assert {event["name"] for event in found} == {"mr", "mr_flipped", "sst2", "trec"}
    assert {(event["digest"], event["rows"], event["context"]) for event in found} == {
        (prepared_data.digest, 32, "training")
    }


def test_a_second_call_finds_the_model_and_launches_nothing(
    output: StepOutput, root: Path, model: ModelConfig, prepared_data: StepOutput
) -> None:
    before = [(path, path.stat().st_size) for path in launches(root)]
    again = run(root, model, RECIPE, prepared_data)
    assert again == replace(output, reused=True)
    assert [(path, path.stat().st_size) for path in launches(root)] == before


def test_a_changed_recipe_makes_another_model(
    output: StepOutput, root: Path, model: ModelConfig, prepared_data: StepOutput
) -> None:
    other = run(root, model, RECIPE.model_copy(update={"seed": 1}), prepared_data)
    assert not other.reused
    assert other.uri != output.uri
    assert other.metadata["final_train_loss"] != output.metadata["final_train_loss"]


def test_a_sampler_leaves_its_schedule_in_the_output_and_in_the_record(
    tmp_path: Path, output: StepOutput, model: ModelConfig, prepared_data: StepOutput
) -> None:
    sampling = MetaSampling(sampler="derts", max_tasks=2, rounds=1, probe_rows=8)
    found = run(tmp_path, model, RECIPE, prepared_data, sampling)
    assert found.metadata["sampler"] == "derts"
    assert found.metadata["optimizer_steps"] == output.metadata["optimizer_steps"]
    assert found.uri.rpartition("/")[2] != output.uri.rpartition("/")[2]
    [own] = SamplingSchedule.read(fetch(found)).rounds
    recorded = [
        event["values"]
        for event in events(tmp_path)
        if event["event"] == "metric" and "share/sst2" in event["values"]
    ]
    assert recorded == [{f"share/{task}": share for task, share in own.shares.items()}]
    assert len([share for share in own.shares.values() if share]) == 3


def test_more_sources_than_there_are_cannot_be_chosen(
    tmp_path: Path, model: ModelConfig, prepared_data: StepOutput
) -> None:
    with pytest.raises(
        InputError, match=r"^Parameter meta_max_tasks is 4: expected at most the 3 sources\.$"
    ):
        run(tmp_path, model, RECIPE, prepared_data, MetaSampling(sampler="derts", max_tasks=4))


def test_an_unknown_base_model_fails_before_anything_is_launched(
    tmp_path: Path, prepared_data: StepOutput
) -> None:
    with pytest.raises(InputError, match=r"The base model '/no/such/model' was not found"):
        run(tmp_path, ModelConfig(base_model="/no/such/model"), RECIPE, prepared_data)
    assert launches(tmp_path) == []
    assert events(tmp_path)[-1]["status"] == "failed"


def test_several_nodes_train_through_a_train_job(
    model: ModelConfig, prepared_data: StepOutput, tmp_path: Path
) -> None:
    root = str(tmp_path / "root")
    with pytest.raises(InputError, match=r"^Parameter nodes is 2: .* which other nodes cannot reach\.$"):
        meta_train_component.python_func(
            meta_model=dsl.Model(uri=str(tmp_path / "model")),
            inputs=write_outputs({"data": prepared_data}, root),
            settings={
                "output_uri": root,
                "model": model.changes(),
                "recipe": {"nodes": 2},
                "node_resources": {"cpu": "4"},
            },
        )
