"""The first contact with MLflow: what cannot take a run is found soon, and costs a step no more than a warning."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mlflow.store.db.utils
import pytest
from doubles.hanging_database import hanging_postgresql
from mlflow import MlflowClient

from gradsift.components.preflight.checks import check_mlflow
from gradsift.components.preflight.step import preflight
from gradsift.components.shared.errors import GradsiftError, TrackingError, TrackingOutageError
from gradsift.components.shared.model_registry import registry
from gradsift.components.shared.parameters.pipeline_settings import form_of
from gradsift.components.shared.tracking import mlflow_connection, mlflow_sync
from gradsift.components.shared.tracking.event_log import EventLog
from gradsift.components.shared.tracking.mlflow_connection import experiment_name


@pytest.fixture
def silent_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"postgresql+psycopg://ada:s3cret@127.0.0.1:{listener.getsockname()[1]}/mlflow"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield


def test_a_database_that_answers_nothing_is_given_up_soon(silent_database: None) -> None:
    began = time.monotonic()
    with pytest.raises(TrackingOutageError, match="timeout") as error:
        check_mlflow()
    assert time.monotonic() - began < 30
    assert "s3cret" not in str(error.value)


@pytest.fixture
def hanging_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database that hangs once it has let its client in, which MLflow has a second to find out.

    A thread that waits for it holds a lock that all of MLflow's clients take, so the next test waits for its end.
    """
    monkeypatch.setattr(mlflow_connection, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(mlflow.store.db.utils, "MAX_RETRY_COUNT", 1)
    before = threading.enumerate()
    with hanging_postgresql() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield address
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(20)


def test_a_database_that_lets_in_and_hangs_is_given_up(hanging_database: str) -> None:
    began = time.monotonic()
    with pytest.raises(TrackingOutageError, match="lets us in and has not answered for 1 seconds"):
        check_mlflow()
    assert time.monotonic() - began < 20


def test_and_so_is_one_that_hangs_after_the_first_contact(
    hanging_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_sync, "contact", lambda uri: None)
    EventLog(str(tmp_path), "step").append("start", params={})
    with pytest.raises(TrackingOutageError, match="has not answered for 1 seconds"):
        mlflow_sync.sync(str(tmp_path))


def test_and_so_is_one_that_hangs_while_a_model_is_registered(
    hanging_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "contact", lambda uri: None)
    with pytest.raises(TrackingOutageError, match="has not answered for 1 seconds"):
        with registry.open_registry(str(tmp_path), "model"):
            pass
    hangs = SimpleNamespace(get_registered_model=lambda name: MlflowClient(hanging_database))
    with pytest.raises(TrackingOutageError, match="has not answered for 1 seconds"):
        registry.ModelRegistry(hanging_database, hangs, "model").holders()


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("http://[host", r"The address 'http://\[host' cannot be read: expected that of an MLflow server"),
        ("http://host:port", "The address 'http://host:port' cannot be read"),
        ("sqlite:////dev", "sqlite:///.* does not answer: .*unable to open database file"),
    ],
)
def test_an_address_of_nothing_is_refused_at_once(
    address: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    began = time.monotonic()
    with pytest.raises(GradsiftError, match=fault) as error:
        check_mlflow()
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 20


def test_and_is_a_warning_of_preflight(
    silent_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "some-run")
    preflight(form_of({"output_uri": str(tmp_path / "root")}), tmp_path / "report.md")
    assert "- **warning** MLflow: " in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("named_by", ["name", "id"])
def test_a_deleted_experiment_is_found(
    named_by: str, mlflow_experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_mlflow() == "the tracking server answers"
    client = MlflowClient()
    number = client.create_experiment(experiment_name())
    client.delete_experiment(number)
    if named_by == "id":
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    with pytest.raises(
        TrackingError, match=f"experiment '{mlflow_experiment}' is deleted: restore it, or name"
    ):
        check_mlflow()
    client.restore_experiment(number)
    assert check_mlflow() == "the tracking server answers"


def test_an_experiment_id_that_does_not_exist_is_found(
    mlflow_experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "987654321")
    with pytest.raises(TrackingError, match="987654321"):
        check_mlflow()
