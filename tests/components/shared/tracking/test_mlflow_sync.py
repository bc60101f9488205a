import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from gradsift.components.shared.artifacts.step_output import produce
from gradsift.components.shared.errors import GradsiftError, TrackingError
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.mlflow_connection import tracking_uri
from gradsift.components.shared.tracking.mlflow_sync import SyncResult, sync
from gradsift.components.shared.tracking.tracking import record_pipeline_end, track_step


class HangingServer(Protocol):
    uri: str

    def hanging(self) -> Any: ...


@pytest.fixture(autouse=True)
def pipeline_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    for variable in ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID"):
        monkeypatch.delenv(f"MLFLOW_{variable}", raising=False)


@pytest.fixture
def dead_uri() -> Iterator[str]:
    """The address of a port that refuses connections."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def sending(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.delenv("GRADSIFT_MLFLOW")
        yield


def record_step(root: str, step: str = "train", points: int = 3) -> None:
    """Record a step with metrics and datasets in turn, so that it is sent in many requests."""
    with track_step(step, root, {"rate": 0.1}) as tracker:
        for point in range(points):
            tracker.metrics({"loss": 1.0 / (point + 1)}, step=point)
            tracker.dataset(f"task {point}", f"s3://data/{point}", f"{point:036}", "training", 10)


def all_runs(uri: str, experiment: str = "gradsift") -> list[Run]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id]) if found else []


def datasets_of(run: Run) -> list[DatasetInput]:
    return run.inputs.dataset_inputs if run.inputs else []


def content(uri: str, experiment: str) -> list[Any]:
    """Return all that MLflow holds of an experiment's runs, in an order of its own."""
    client = MlflowClient(uri)
    return sorted(
        (
            run.info.run_name,
            run.info.status,
            run.info.start_time,
            run.info.end_time or 0,
            sorted(run.data.params.items()),
            sorted((used.dataset.name, used.dataset.digest) for used in datasets_of(run)),
            [
                (point.step, point.value, point.timestamp)
                for point in client.get_metric_history(run.info.run_id, "loss")
            ],
        )
        for run in all_runs(uri, experiment)
    )


def sync_process(root: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "gradsift.components.shared.tracking.mlflow_sync", root]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_default_is_sqlite_in_the_run_root_and_each_step_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = str(tmp_path / "my runs #1, 50%?")

    def write(folder: Path) -> dict[str, Any]:
        (folder / "report.html").write_text("<h1>Report</h1>")
        return {}

    with sending(monkeypatch):
        with track_step("train", root, {"rate": 0.1}) as tracker:
            tracker.metrics({"loss": 0.5})
            tracker.artifact(produce(root, "evaluation", {}, write), "report.html")

    assert caplog.messages == []
    assert (Path(root) / "mlflow.db").is_file()
    (report,) = (Path(root) / "mlflow-artifacts").rglob("report.html")
    assert report.read_text() == "<h1>Report</h1>"
    uri = tracking_uri(root)
    assert uri is not None
    runs = {run.info.run_name: run for run in all_runs(uri)}
    assert set(runs) == {"run-1", "train"}
    assert runs["train"].data.metrics == {"loss": 0.5}
    assert runs["train"].info.status == "FINISHED"


def test_nothing_is_sent_twice(tmp_path: Path, mlflow_experiment: str, mlflow_server: HangingServer) -> None:
    root = str(tmp_path)
    record_step(root, "train")
    record_step(root, "evaluation")
    record_pipeline_end(root, "finished")
    assert sync(root) == SyncResult(events=17, runs=1)
    sent = content(mlflow_server.uri, mlflow_experiment)

    assert sync(root) == SyncResult(events=0, runs=0)
    for counts in tmp_path.glob("tracking/*/*.sent.json"):
        counts.unlink()
    assert sync(root) == SyncResult(events=17, runs=1)

    assert content(mlflow_server.uri, mlflow_experiment) == sent
    assert [len(history) for *_, history in sent] == [3, 3, 3]


def test_an_outage_fails_no_step_and_loses_nothing(
    tmp_path: Path,
    dead_uri: str,
    mlflow_experiment: str,
    mlflow_server: HangingServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = str(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_uri)
    with sending(monkeypatch):
        record_step(root)
    ended = time.time()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"MLflow at {dead_uri}" in caplog.messages[0]
    assert "refused" in caplog.messages[0]
    assert "`gradsift mlflow-sync`" in caplog.messages[0]
    recorded = read_events((tmp_path / "tracking/run-1/train.jsonl").read_bytes())

    time.sleep(1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    assert sync(root) == SyncResult(events=8, runs=1)

    _, (*_, start, end, params, datasets, losses) = content(mlflow_server.uri, mlflow_experiment)
    assert start == int(recorded[0]["time"] * 1000)
    assert end <= ended * 1000
    assert params == [("rate", "0.1")]
    assert len(datasets) == 3
    assert losses == [
        (event["step"], event["values"]["loss"], int(event["time"] * 1000))
        for event in recorded
        if event["event"] == "metric"
    ]


def test_a_database_that_is_down_costs_a_step_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://ada:s3cret@127.0.0.1:9/mlflow")
    began = time.monotonic()
    with sending(monkeypatch):
        record_step(str(tmp_path))
    assert time.monotonic() - began < 30
    [message] = caplog.messages
    assert "MLflow at postgresql+psycopg://127.0.0.1:9/mlflow did not take the tracking events" in message
    assert "refused" in message
    assert "s3cret" not in message


def test_a_server_that_hangs_is_given_up_in_the_time_the_user_set(
    tmp_path: Path, mlflow_experiment: str, mlflow_server: HangingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    record_step(str(tmp_path))
    before = dict(os.environ)
    began = time.monotonic()
    with mlflow_server.hanging(), pytest.raises(TrackingError, match="timed out"):
        sync(str(tmp_path))
    assert 1 < time.monotonic() - began < 5
    assert dict(os.environ) == before


def test_a_sync_that_was_killed_goes_on(
    tmp_path: Path, mlflow_experiment: str, mlflow_server: HangingServer
) -> None:
    root = str(tmp_path)
    record_step(root, points=25)
    counts = tmp_path / "tracking/run-1/train.sent.json"
    process = sync_process(root)
    while not counts.exists() or max(json.loads(counts.read_bytes()).values()) < 10:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (sent,) = json.loads(counts.read_bytes()).values()
    assert 10 <= sent < 52

    assert sync(root) == SyncResult(events=52 - sent, runs=1)

    _, train = content(mlflow_server.uri, mlflow_experiment)
    *_, datasets, losses = train
    assert train[1] == "FINISHED"
    assert len(datasets) == 25
    assert [(step, value) for step, value, _ in losses] == [(step, 1 / (step + 1)) for step in range(25)]


def test_syncs_at_the_same_time_send_once(
    tmp_path: Path, mlflow_experiment: str, mlflow_server: HangingServer
) -> None:
    record_step(str(tmp_path), "train")
    record_step(str(tmp_path), "evaluation")
    processes = [sync_process(str(tmp_path)) for _ in range(3)]
    assert [process.communicate() and process.returncode for process in processes] == [0, 0, 0]
    names = [name for name, *_ in content(mlflow_server.uri, mlflow_experiment)]
    assert names == ["evaluation", "run-1", "train"]


def test_only_the_run_that_was_asked_for_is_sent_and_otherwise_the_oldest_first(
    tmp_path: Path, mlflow_experiment: str, mlflow_server: HangingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in ("zebra", "yak", "ant"):
        monkeypatch.setenv("KFP_RUN_ID", run)
        record_step(str(tmp_path))

    assert sync(str(tmp_path), "yak").runs == 1
    assert {run.info.run_name for run in all_runs(mlflow_server.uri, mlflow_experiment)} == {"yak", "train"}
    assert sync(str(tmp_path)).runs == 2
    counts = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("tracking/*/*.sent.json")}
    assert sorted(counts, key=lambda run: counts[run]) == ["yak", "zebra", "ant"]


def test_another_server_gets_everything_from_the_start(
    tmp_path: Path, mlflow_experiment: str, mlflow_server: HangingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_step(str(tmp_path))
    sync(str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")

    sync(str(tmp_path))

    uri = tracking_uri(str(tmp_path))
    assert uri is not None
    assert content(uri, mlflow_experiment) == content(mlflow_server.uri, mlflow_experiment)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("127.0.0.1:9", "MLflow at http://127.0.0.1:9 "),
        ("127.0.0.1:port", "The address 'http://***@127.0.0.1:port' cannot be read"),
    ],
)
def test_a_password_in_the_servers_address_stays_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, shown: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:s3cret@{address}")
    record_step(str(tmp_path))
    with pytest.raises(GradsiftError) as caught:
        sync(str(tmp_path))
    assert "s3cret" not in str(caught.value)
    assert shown in str(caught.value)
    assert not [path for path in tmp_path.rglob("*.json") if "s3cret" in path.read_text()]


def test_an_s3_root_without_a_server_keeps_its_logs_for_later(
    s3_root: str,
    mlflow_server: HangingServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="gradsift")
    record_step(s3_root)
    assert sync(s3_root) == SyncResult(0, 0)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "MLFLOW_TRACKING_URI is not set" in caplog.messages[0]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", s3_root)
    assert sync(s3_root) == SyncResult(events=8, runs=1)
    assert sync(s3_root) == SyncResult(0, 0)
    assert [name for name, *_ in content(mlflow_server.uri, s3_root)] == ["run-1", "train"]
    assert open_storage(s3_root).exists("tracking/run-1/train.sent.json")


def test_a_long_step_is_sent_meanwhile(
    tmp_path: Path, mlflow_experiment: str, mlflow_server: HangingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradsift.components.shared.tracking.tracking.SEND_EVERY_SECONDS", 0.5)
    losses: list[float] = []
    with sending(monkeypatch), track_step("train", str(tmp_path), {}) as tracker:
        deadline = time.monotonic() + 60
        while not losses and time.monotonic() < deadline:
            tracker.metrics({"loss": 0.5})
            time.sleep(0.1)
            runs = all_runs(mlflow_server.uri, mlflow_experiment)
            losses = [run.data.metrics["loss"] for run in runs if "loss" in run.data.metrics]
            running = [run.info.status for run in runs]
    assert losses == [0.5]
    assert running == ["RUNNING", "RUNNING"]
    assert sorted(run.info.status for run in all_runs(mlflow_server.uri, mlflow_experiment)) == [
        "FINISHED",
        "RUNNING",
    ]


def test_a_folder_without_logs_has_nothing_to_send(tmp_path: Path) -> None:
    assert sync(str(tmp_path / "nowhere")) == SyncResult(0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"{", b"null", b"[1]", b'{"a": "b"}', b'{"a": -1}', b'{"a": true}'])
def test_a_garbage_count_of_what_was_sent_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    record_step(str(tmp_path))
    state = tmp_path / "tracking" / "run-1" / "train.sent.json"
    state.write_bytes(content)
    with pytest.raises(
        GradsiftError, match=rf"^{state} (is not valid JSON|holds|does not count events).*\.$"
    ):
        sync(str(tmp_path))
