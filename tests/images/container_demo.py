"""The images built for real, and the demo's pipeline in them, from S3 to MLflow: what `make test-containers` runs.

Not collected by itself, as it needs root and Debian's packages. It asks for what CI has: two cores, 10 GB of disk.
"""

import json
import mmap
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import BUCKET, S3Server
from images.container_machine import ROOT, Engine
from images.mlflow_on_postgresql import mlflow_on_postgresql
from mlflow import MlflowClient
from mlflow.entities import Run

from gradsift.components.shared.parameters.pipeline_settings import form_of
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.tracking.run_record import step_events
from gradsift.pipelines.live_table import STEPS
from images import container_machine

# The first test builds the images, another runs the demo. A container's log may never end: podman 4.3.1 was seen to
# keep it open, and KFP's runner waits for it.
pytestmark = pytest.mark.timeout(1200)
COMMITTED = ROOT / "pipelines" / "pipeline.yaml"
IMAGES = ("cpu", "train")
RUNNERS = ("docker", "subprocess")
TORCH = f"torch=={version('torch').partition('+')[0]}"
USER = "admin"
SETTINGS: dict[str, Any] = {
    "sources": ["mr", "trec", "mr_flipped"],
    "prepare_max_rows_per_task": 32,
    "model_max_length": 32,
    "meta_steps": 4,
    "extract_dimension": 64,
    "extract_projection_width": 1024,
    "estimate_random_subsets": 20,
    "fine_tune_steps": 4,
    "evaluate_seeds": 1,
    "evaluate_max_runs": 1,
    "train_precision": "float32",
    "extract_precision": "float32",
}


@dataclass(frozen=True)
class Demo:
    """What two runs of the same pipeline left behind: one in containers, one in processes of this machine."""

    selections: dict[str, Selection]
    statuses: dict[str, dict[str, str]]
    logs: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def planted(s3_server: S3Server) -> dict[str, str]:
    """Return secrets by the variable that each is given in; they must be found nowhere else."""
    keys = {name: s3_server.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return {
        **keys,
        "HF_TOKEN": f"hf_{secrets.token_hex(16)}",
        "MLFLOW_TRACKING_PASSWORD": secrets.token_urlsafe(24),
    }


@pytest.fixture(scope="module")
def engine(planted: dict[str, str]) -> Iterator[Engine]:
    """Build both images, in an environment full of secrets."""
    if lacking := container_machine.missing():
        pytest.exit(lacking, returncode=2)
    with container_machine.container_engine(planted) as engine:
        container_machine.import_base(engine)
        packages = container_machine.collect_packages(engine, TORCH)
        for image in IMAGES:
            container_machine.build(engine, image, packages, TORCH)
        yield engine


@pytest.fixture(scope="module")
def mlflow_uri(planted: dict[str, str], s3_server: S3Server) -> Iterator[str]:
    """Start an MLflow server that asks for a password, on PostgreSQL, with its artifacts on S3."""
    settings = {**s3_server.environment, "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/mlflow"}
    with mlflow_on_postgresql(USER, planted["MLFLOW_TRACKING_PASSWORD"], settings) as uri:
        yield uri


@contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command in the background, for the time of the block at most."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def demo(engine: Engine, planted: dict[str, str], s3_server: S3Server, mlflow_uri: str) -> Iterator[Demo]:
    """Run the committed pipeline by both runners at once, with the same arguments: a run keeps one core busy."""
    environment = {
        **engine.environment,
        **s3_server.environment,
        "GRADSIFT_MLFLOW": "on",
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_EXPERIMENT_NAME": "containers",
        "MLFLOW_TRACKING_URI": mlflow_uri,
        "MLFLOW_TRACKING_USERNAME": USER,
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as name, engine.service() as address, ExitStack() as both:
        folder = Path(name)
        # Podman calls an image of this machine's own localhost/...
        compiled = folder / "pipeline.yaml"
        compiled.write_text(COMMITTED.read_text().replace("image: gradsift/", "image: localhost/gradsift/"))
        started = {}
        for runner in RUNNERS:
            work = folder / runner
            work.mkdir()
            os.chown(work, 1000, 1000)
            arguments = json.dumps(form_of({"output_uri": f"s3://{BUCKET}/{runner}", **SETTINGS}))
            command = [sys.executable, str(Path(__file__).with_name("run_pipeline.py"))]
            own = {"DOCKER_HOST": address, "KFP_RUN_ID": runner}
            started[runner] = both.enter_context(
                running(
                    [*command, runner, str(compiled), str(work), arguments],
                    {**environment, **own},
                    folder / f"{runner}.log",
                )
            )
        for runner, process in started.items():
            assert process.wait() == 0, (folder / f"{runner}.log").read_text()
        logs = {runner: (folder / f"{runner}.log").read_text() for runner in RUNNERS}
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in s3_server.environment.items():
                patch.setenv(variable, value)
            events = {runner: step_events(f"s3://{BUCKET}/{runner}", runner) for runner in RUNNERS}
        statuses = {
            runner: {step: log[-1]["status"] for step, log in steps.items()}
            for runner, steps in events.items()
        }
        selections = {runner: _selection(s3_server, runner) for runner in RUNNERS}
        yield Demo(selections, statuses, logs, folder)


@pytest.fixture
def mlflow_runs(
    demo: Demo, mlflow_uri: str, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> list[Run]:
    """Return every run that the MLflow server has of both runs of the pipeline."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", planted["MLFLOW_TRACKING_PASSWORD"])
    client = MlflowClient(mlflow_uri)
    return client.search_runs([client.get_experiment_by_name("containers").experiment_id])


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_healthy_as_any_user_on_a_root_that_cannot_be_written(engine: Engine, image: str) -> None:
    restricted = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--user", "123456:0"]
    found = engine.run("podman", "run", "--rm", *restricted, f"gradsift/{image}:{version('gradsift')}")
    assert ("no torch" in found) == (image == "cpu"), found


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_what_it_is_and_holds_nothing_of_its_making(engine: Engine, image: str) -> None:
    name = f"gradsift/{image}:{version('gradsift')}"
    [described] = json.loads(engine.run("podman", "image", "inspect", name))
    assert described["User"] == "1000:1000"
    labels = {key.rpartition(".")[2]: value for key, value in described["Labels"].items()}
    assert labels["title"] == f"gradsift/{image}"
    assert labels["version"] == version("gradsift")
    assert labels["licenses"] == "Apache-2.0"
    assert len(labels["revision"]) == 40
    leftovers = "gcc cc g++ clang nvcc make git"
    script = f"command -v {leftovers}; ls /mnt /tmp /src /wheels /etc/pip.conf /opt/gradsift/src; true"
    found = engine.run("podman", "run", "--rm", "--user", "0", name, "sh", "-c", f"({script}) 2>/dev/null")
    assert found.split() == ["/mnt:", "/tmp:"]
    zone = "from zoneinfo import ZoneInfo; print(ZoneInfo('Europe/Berlin'))"
    assert engine.run("podman", "run", "--rm", name, "python", "-c", zone).strip() == "Europe/Berlin"
    assert (
        engine.run("podman", "run", "--rm", name, "sh", "-c", "test -d /usr/share/zoneinfo && id -u")
        == "1000\n"
    )


def test_containers_select_what_processes_of_this_machine_select(demo: Demo) -> None:
    in_containers, here = (demo.statuses[runner] for runner in RUNNERS)
    assert in_containers == here
    assert set(in_containers) >= set(STEPS)
    # The chosen model is one of the runs that confirmed the choice.
    assert {step for step, status in in_containers.items() if status != "finished"} == {"target_finetuning"}
    assert in_containers["target_finetuning"] == "reused"
    ours, theirs = (demo.selections[runner].model_dump(exclude={"seconds"}) for runner in RUNNERS)
    assert ours == theirs


def test_mlflow_has_a_parent_run_with_its_steps_and_keeps_artifacts_on_s3(
    demo: Demo, s3_server: S3Server, mlflow_runs: list[Run]
) -> None:
    [parent] = [run for run in mlflow_runs if run.data.tags.get("kfp.pipeline_run_id") == "docker"]
    children = [run for run in mlflow_runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["gradsift.step"] for run in children} == set(demo.statuses["docker"])
    assert {run.info.status for run in children} == {"FINISHED"}
    assert any(key.endswith("/report.html") for key, _ in _objects(s3_server, "mlflow/"))


def test_no_secret_is_in_a_log_an_artifact_or_a_tag(
    demo: Demo, s3_server: S3Server, planted: dict[str, str], mlflow_runs: list[Run]
) -> None:
    places = {
        **{f"log of {runner}": log.encode() for runner, log in demo.logs.items()},
        **{str(path): path.read_bytes() for path in demo.folder.rglob("*") if path.is_file()},
        "MLflow": repr([run.to_dictionary() for run in mlflow_runs]).encode(),
    }
    assert str(demo.folder / "pipeline.yaml") in places
    objects = ((f"s3://{BUCKET}/{key}", content) for key, content in _objects(s3_server, ""))
    searched = list(chain(places.items(), objects))
    assert [found for place in searched for found in _found(planted, *place)] == []
    is_there = {place for place, content in searched if _found({"target": "sst2"}, place, content)}
    assert {"MLflow", *(f"log of {runner}" for runner in RUNNERS)} <= is_there
    for folder in (*RUNNERS, "mlflow"):
        assert any(place.startswith(f"s3://{BUCKET}/{folder}/") for place in is_there)


@pytest.mark.parametrize("image", IMAGES)
def test_no_secret_is_in_a_layer_of_an_image(
    engine: Engine, planted: dict[str, str], image: str, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    name = f"gradsift/{image}:{version('gradsift')}"
    engine.run("podman", "save", "--format", "docker-archive", "--output", str(archive), name)
    with archive.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert content.find(b"gradsift/components/subset_estimation/step.py") >= 0
        assert _found(planted, name, content) == []


def _found(planted: dict[str, str], place: str, content: bytes | mmap.mmap) -> list[str]:
    values = planted.items()
    return [f"{variable} in {place}" for variable, value in values if content.find(value.encode()) >= 0]


def _objects(server: S3Server, prefix: str) -> Iterator[tuple[str, bytes]]:
    names = {
        "AWS_ENDPOINT_URL": "endpoint_url",
        "AWS_ACCESS_KEY_ID": "aws_access_key_id",
        "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
        "AWS_DEFAULT_REGION": "region_name",
    }
    s3 = boto3.client("s3", **{names[variable]: value for variable, value in server.environment.items()})
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for entry in page.get("Contents", []):
            yield entry["Key"], s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()


def _selection(server: S3Server, runner: str) -> Selection:
    outputs = _objects(server, f"{runner}/subset_estimation/")
    [content] = [content for key, content in outputs if key.endswith("/selection.json")]
    return Selection.model_validate_json(content)
