"""Training on two nodes: the double of the API starts each node as a process here, as Kubeflow Trainer would."""

import json
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.trainer_api_server import Cluster
from doubles.trainer_nodes import Nodes
from forked_training import forked_training
from safetensors.torch import load_file
from waiting import wait_until

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.kubeflow_trainer import train_node
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training import training
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import error_of
from gradsift.components.shared.training.trained_model import produce_trained_model, training_result

TASKS = ["sst2", "mr", "trec"]
RECIPE = TrainingRecipe(
    steps=24,
    batch_size=8,
    learning_rate=3e-3,
    precision="float32",
    zero_stage=2,
    nodes=2,
    processes=1,
    checkpoint_steps=6,
    seed=3,
)


@pytest.fixture
def data(s3_root: str) -> StepOutput:
    config = DataPreparationConfig(auxiliary_tasks=["mr", "trec"], max_rows_per_task=32)
    return prepare_data(config, s3_root)


def train(
    data: StepOutput,
    root: str,
    model: ModelConfig,
    recipe: TrainingRecipe,
    sampling: MetaSampling | None = None,
) -> StepOutput:
    with track_step("meta_training", root, {}) as tracker:
        return produce_trained_model(
            "meta_training", data, TASKS, model, recipe, root, tracker, launcher_on({}), sampling
        )


def losses(output: StepOutput) -> dict[int, float]:
    return dict(training_result(output)["losses"])


def events(root: str) -> list[dict[str, Any]]:
    return read_events(open_storage(root).read("tracking/run-1/meta_training.jsonl"))


@pytest.mark.slow
def test_two_nodes_train_what_two_processes_do_though_a_node_is_taken_away(
    in_cluster: Cluster, nodes: Nodes, data: StepOutput, s3_root: str, tiny_encoder: Path
) -> None:
    model = ModelConfig(base_model=str(tiny_encoder))
    storage = open_storage(s3_root)

    def take_one_away(processes: list["subprocess.Popen[bytes]"]) -> None:
        def is_under_way() -> bool:
            ended = any(process.poll() is not None for process in processes)
            return ended or any(key.endswith("/whole") for key in storage.keys("work/"))

        wait_until(is_under_way, 300)
        for pod in nodes.api.pods_of(next(iter(nodes.api.train_jobs))):
            pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
        processes[1].send_signal(signal.SIGTERM)
        nodes.when_started = lambda processes: None

    nodes.when_started = take_one_away
    spread = train(data, s3_root, model, RECIPE)
    with forked_training():
        alone = train(data, s3_root, model, RECIPE.model_copy(update={"nodes": 1, "processes": 2}))

    assert nodes.lives == 2
    resumed = json.loads(nodes.log(0).split("gradsift-event ")[1].splitlines()[0])
    assert resumed["done"] > 6, "it went on from a checkpoint"
    result, expected = training_result(spread), training_result(alone)
    assert (result["processes"], expected["processes"]) == (2, 2)
    assert losses(spread) == pytest.approx(losses(alone), abs=1e-5)
    one, other = (load_file(fetch(each) / "model.safetensors") for each in (spread, alone))
    for name, value in one.items():
        if not name.endswith("key.bias"):  # softmax cancels them, so their gradients are rounding alone
            torch.testing.assert_close(value, other[name], atol=1e-4, rtol=0)
    curve = [event["step"] for event in events(s3_root) if event["event"] == "metric" and "step" in event]
    assert sorted(set(curve)) == list(range(1, 25))
    assert storage.keys("work/") == []
    assert train(data, s3_root, model, RECIPE).reused


@pytest.mark.slow
def test_two_nodes_go_through_rounds_as_two_processes_do(
    in_cluster: Cluster, nodes: Nodes, data: StepOutput, s3_root: str, tiny_encoder: Path
) -> None:
    """The model of a round is saved by one node and is where the next one starts on both."""
    model = ModelConfig(base_model=str(tiny_encoder))
    recipe = RECIPE.model_copy(update={"steps": 6})
    sampling = MetaSampling(sampler="derts", max_tasks=1, rounds=2, probe_rows=8)
    spread = train(data, s3_root, model, recipe, sampling)
    alone = train(data, s3_root, model, recipe.model_copy(update={"nodes": 1, "processes": 2}), sampling)
    schedules = [SamplingSchedule.read(fetch(each)) for each in (spread, alone)]
    one, other = ([own.stands_for for own in schedule.rounds] for schedule in schedules)
    assert one == other
    assert len(one) == 2
    assert losses(spread) == pytest.approx(losses(alone), abs=1e-5)
    assert open_storage(s3_root).keys("work/") == []


@pytest.mark.slow
def test_an_error_of_the_user_on_the_nodes_is_that_sentence(
    in_cluster: Cluster, nodes: Nodes, data: StepOutput, s3_root: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"zero_stage": 0})
    model = ModelConfig(base_model=str(tiny_encoder))
    job = TrainingJob(tmp_path / "model", fetch(data), ["sst2", "nothing"], model, recipe)
    with pytest.raises(InputError) as error, track_step("meta_training", s3_root, {}) as tracker:
        training.train([job], tmp_path / "work", tracker, launcher_on({}))
    assert str(error.value) == "There is no task 'nothing' in the prepared data of suite 'demo'."
    assert nodes.lives == 1


def test_a_node_that_does_not_see_its_gpus_says_so_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADSIFT_GPUS", str(torch.cuda.device_count() + 2))
    monkeypatch.setenv("PET_NODE_RANK", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        train_node.main(str(tmp_path / "work"), "jobs-1.json")
    error = error_of(json.loads((tmp_path / "work" / "failures" / "1.json").read_text()))
    assert isinstance(error, InputError)
    assert "by the run's settings but sees" in str(error)


def test_nodes_need_a_run_root_that_they_can_reach(prepared_data: StepOutput, tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    with pytest.raises(InputError, match=r"^Parameter nodes is 2: expected 1, as the run root .* local path"):
        train(prepared_data, root, ModelConfig(), RECIPE)
