"""A step that launches a TrainJob, and lives that a TrainJob may have in the double of the cluster's API."""

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import S3Server
from doubles.trainer_api_double import Thing, TrainerApi
from doubles.trainer_api_server import Cluster

from gradsift.components.shared.artifacts.step_output import fetch, produce, work_uri
from gradsift.components.shared.errors import GradsiftError
from gradsift.components.shared.kubeflow_trainer.train_job_launch import run_train_job
from gradsift.components.shared.kubeflow_trainer.train_job_payload import train_job_name
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.job import TrainingJob

NAME = train_job_name("run-1", "meta_training")
RESOURCES = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 2}


class Launch:
    """A step that launches, in this process."""

    def __init__(self, root: str, folder: Path, data: Path) -> None:
        self.root = root
        self.uri = work_uri(root, "meta_training-1-processes")
        self.scratch = folder
        folder.mkdir()
        recipe = TrainingRecipe(steps=4, batch_size=8, nodes=2)
        self.job = TrainingJob(folder / "model", data, ["a"], ModelConfig(), recipe)

    def run(self) -> None:
        with track_step("meta_training", self.root, {}) as tracker:
            run_train_job([self.job], self.uri, self.scratch, tracker, RESOURCES)

    def fails(self) -> GradsiftError:
        with pytest.raises(GradsiftError) as error:
            self.run()
        return error.value

    def metrics(self) -> list[dict[str, float]]:
        content = open_storage(self.root).read("tracking/run-1/meta_training.jsonl")
        return [event["values"] for event in read_events(content) if event["event"] == "metric"]


@pytest.fixture(scope="module")
def data(s3_server: S3Server) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        root = "s3://bucket/launch"
        made = produce(root, "data_preparation", {}, lambda folder: {"n": (folder / "a").write_text("a")})
        return fetch(made)


@pytest.fixture
def launch(s3_root: str, in_cluster: Cluster, tmp_path: Path, data: Path) -> Launch:
    return Launch(s3_root, tmp_path / "work", data)


@pytest.fixture
def controllers(trainer_api: TrainerApi) -> Iterator[Callable[..., list[Thing]]]:
    """Return what plays the controllers: the n-th TrainJob that is created gets the n-th of the given lives."""
    threads: list[threading.Thread] = []
    errors: list[BaseException] = []
    created: list[Thing] = []

    def live(life: Callable[[], None]) -> None:
        try:
            life()
        except BaseException as error:
            errors.append(error)

    def play(*lives: Callable[[], None]) -> list[Thing]:
        def on_create(train_job: Thing) -> None:
            threads.append(threading.Thread(target=live, args=(lives[len(created)],), daemon=True))
            created.append(json.loads(json.dumps(train_job)))
            threads[-1].start()

        trainer_api.on_create = on_create
        return created

    yield play
    for thread in threads:
        thread.join(10)
    assert errors == []


def event(step: int, loss: float) -> str:
    values = {"train_loss": loss, "learning_rate": 0.1}
    return "gradsift-event " + json.dumps(
        {"done": step, "total": 4, "unit": "steps", "step": step, "values": values}
    )


def completes(api: TrainerApi) -> Callable[[], None]:
    def life() -> None:
        first, second = api.start_nodes(NAME)
        bar = "2/4"  # ends no line, so that the event after it stands in its middle
        api.say(first, "hello from the first node", event(1, 2.0), bar + event(2, 1.0))
        api.say(second, "hello from the second node")
        for pod in (first, second):
            api.end_pod(pod, 0)
        api.set_condition(NAME, "Complete", "JobsCompleted", "jobset completed successfully")

    return life


def fails(api: TrainerApi, exit_code: int = 1, **status: Any) -> Callable[[], None]:
    def life() -> None:
        first, second = api.start_nodes(NAME)
        api.say(first, "[rank0]: RuntimeError: connection closed by peer")
        api.say(second, "[rank1]: loading", "[rank1]: ValueError: bad row 7", "[rank1]: goodbye")
        api.end_pod(second, exit_code, **status)
        api.end_pod(first, 1)
        api.add_event(second["metadata"]["name"], "Pod", "BackOff", "Back-off restarting failed container")
        api.set_condition(NAME, "Failed", "FailedJobs", "jobset failed due to one or more job failures")

    return life


STEP = """
    import json, sys
    from pathlib import Path
    from kubernetes.config import incluster_config
    from gradsift.components.shared.kubeflow_trainer import train_job_launch
    from gradsift.components.shared.tracking.tracking import track_step
    from gradsift.components.shared.training.job import TrainingJob

    account, root, uri, scratch, job, resources = sys.argv[1:]
    incluster_config.SERVICE_TOKEN_FILENAME = account + "/token"
    incluster_config.SERVICE_CERT_FILENAME = account + "/ca.crt"
    train_job_launch.POLL_SECONDS = 0.1
    job = TrainingJob.from_json(json.loads(job))
    with track_step("meta_training", root, {}) as tracker:
        train_job_launch.run_train_job([job], uri, Path(scratch), tracker, json.loads(resources))
"""


def start(launch: Launch, cluster: Cluster) -> "subprocess.Popen[bytes]":
    job = json.dumps(launch.job.to_json())
    arguments = [
        str(cluster.account),
        launch.root,
        launch.uri,
        str(launch.scratch),
        job,
        json.dumps(RESOURCES),
    ]
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(STEP), *arguments])


def completes_now(api: TrainerApi, *pods: Thing) -> None:
    for pod in pods:
        api.end_pod(pod, 0)
    api.set_condition(NAME, "Complete", "JobsCompleted")
