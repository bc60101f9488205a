"""The first contact with MLflow: what cannot take a run is found soon, and costs a step no more than a warning."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from gradsift.components.preflight.checks import check_mlflow
from gradsift.components.preflight.step import preflight
from gradsift.components.shared.errors import TrackingError, TrackingOutageError
from gradsift.components.shared.parameters.pipeline_settings import form_of
from gradsift.components.shared.tracking import mlflow_connection
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
def hanging_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A PostgreSQL server that lets its client in, is ready for a query, and answers none."""

    def let_in() -> None:
        connection, _ = listener.accept()
        with connection:
            while request := connection.recv(4096):
                if request[4:8] == bytes([0, 3, 0, 0]):  # the start of protocol 3.0
                    connection.sendall(b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I")
                elif len(request) == 8:  # asks for encryption
                    connection.sendall(b"N")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"postgresql+psycopg://ada:s3cret@127.0.0.1:{listener.getsockname()[1]}/mlflow"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        threading.Thread(target=let_in, daemon=True).start()
        yield


def test_a_database_that_lets_in_and_hangs_is_given_up(
    hanging_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_connection, "ANSWER_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(TrackingOutageError, match="lets us in and has not answered for 1 seconds"):
        check_mlflow()
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
