"""Training on two nodes: the double of the API starts each node as a process here, as Kubeflow Trainer would."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.trainer_api_double import Thing, TrainerApi
from doubles.trainer_api_server import Cluster
from safetensors.torch import load_file
from waiting import wait_until

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.kubeflow_trainer import train_node
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
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


class Nodes:
    """The machines of a cluster: runs the command of each TrainJob's nodes, with a disk of their own.

    Attributes:
        lives: how many TrainJobs have started.
        when_started: called with each node's processes, once they run.
    """

    def __init__(self, api: TrainerApi, disks: Path) -> None:
        self.api = api
        self.disks = disks
        self.lives = 0
        self.when_started: Callable[[list[subprocess.Popen[bytes]]], None] = lambda processes: None
        self.processes: list[subprocess.Popen[bytes]] = []
        api.on_create = lambda train_job: threading.Thread(
            target=self._run, args=(train_job,), daemon=True
        ).start()

    def _run(self, train_job: Thing) -> None:
        name = train_job["metadata"]["name"]
        self.lives += 1
        pods = self.api.start_nodes(name)
        processes = self._start(train_job["spec"]["trainer"])
        readers = [
            threading.Thread(target=self._read, args=(pod, process), daemon=True)
            for pod, process in zip(pods, processes, strict=True)
        ]
        for reader in readers:
            reader.start()
        self.when_started(processes)
        for process in processes:
            process.wait()
        for reader in readers:
            reader.join()
        failed = any(process.returncode for process in processes)
        self.api.set_condition(name, "Failed" if failed else "Complete")

    def _start(self, trainer: Thing) -> list["subprocess.Popen[bytes]"]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        started = []
        for rank in range(trainer["numNodes"]):
            disk = self.disks / f"life-{self.lives}" / f"node-{rank}"
            disk.mkdir(parents=True)
            environment = {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
                "TMPDIR": str(disk),
                "OMP_NUM_THREADS": "1",
            }
            command = [sys.executable, *trainer["command"][1:]]
            started.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            )
        self.processes += started
        return started

    def _read(self, pod: Thing, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.api.say(pod, line.decode().rstrip("\n"))
        self.api.end_pod(pod, process.wait() % 256)

    def log(self, rank: int) -> str:
        """Return what the node of the last TrainJob printed."""
        (pod,) = [
            pod
            for pod in self.api.pods.values()
            if pod["metadata"]["labels"].get("batch.kubernetes.io/job-completion-index") == str(rank)
        ]
        return "\n".join(text for _, text in self.api.logs[pod["metadata"]["name"]])


@pytest.fixture
def nodes(trainer_api: TrainerApi, tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(trainer_api, tmp_path / "disks")
    yield nodes
    for process in nodes.processes:
        if process.poll() is None:
            process.terminate()
            process.wait()


@pytest.fixture
def data(s3_root: str) -> StepOutput:
    config = DataPreparationConfig(auxiliary_tasks=["mr", "trec"], max_rows_per_task=32)
    return prepare_data(config, s3_root)


def train(data: StepOutput, root: str, model: ModelConfig, recipe: TrainingRecipe) -> StepOutput:
    with track_step("meta_training", root, {}) as tracker:
        return produce_trained_model(
            "meta_training", data, TASKS, model, recipe, root, tracker, launcher_on({})
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
