"""How MLflow is reached: where it is, how patiently it is asked, and its errors as one sentence."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from gradsift.components.shared.credentials import redacted
from gradsift.components.shared.errors import GradsiftError, TrackingError, TrackingOutageError
from gradsift.components.shared.storage.addresses import is_remote

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
# A server that is down is given up after ten seconds; one that answered may take its time.
FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
DATABASE_SECONDS = 4
ANSWER_SECONDS = 30.0
"""A database that lets us in has this long to answer: its drivers would wait for ever."""
LATER = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


def tracking_uri(root_uri: str) -> str | None:
    """Return where events go: to `MLFLOW_TRACKING_URI`, to SQLite in a local run root, or (None) nowhere."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    if is_remote(root_uri):
        return None
    return f"sqlite:///{quote(str(Path(root_uri).absolute()), safe='/ ')}/mlflow.db"


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set those environment variables that the user has not set, for the time of the block."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def contact(uri: str) -> None:
    """Ask the server whether it answers, lets us in and has the experiment, and give up soon.

    Call this in a block of `mlflow_errors`: it raises whatever MLflow and SQLAlchemy do.

    Raises:
        TrackingError: the experiment is deleted, so that no run can be recorded in it.
        TrackingOutageError: a database lets us in and answers nothing then.
    """
    from mlflow import MlflowClient
    from mlflow.store.db.db_types import DATABASE_ENGINES, SQLITE

    kind = urlsplit(uri).scheme.partition("+")[0]
    with environment({**QUIET, **FIRST_CONTACT}):
        if kind in DATABASE_ENGINES and kind != SQLITE:
            experiment = _within_limit(lambda: _ask_database(uri, kind))
        else:
            experiment = find_experiment(MlflowClient(uri))
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"The MLflow experiment {experiment.name!r} is deleted: restore it, or name another one in "
            "MLFLOW_EXPERIMENT_NAME."
        )


def _ask_database(uri: str, kind: str) -> "Experiment | None":
    """Return the experiment; the database is asked first, as MLflow itself tries to reach one for two minutes."""
    import sqlalchemy
    from mlflow import MlflowClient

    limit = {"timeout" if kind == "mssql" else "connect_timeout": DATABASE_SECONDS}
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=limit)
    engine.connect().close()
    return find_experiment(MlflowClient(uri))


def _within_limit(ask: Callable[[], "Experiment | None"]) -> "Experiment | None":
    """Return what `ask` does, and leave it behind where it takes longer than `ANSWER_SECONDS`."""
    answer: Future[Experiment | None] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError as error:
        if answer.done():
            raise
        raise TrackingOutageError(
            f"The MLflow database lets us in and has not answered for {ANSWER_SECONDS:.0f} seconds."
        ) from error


def find_experiment(client: "MlflowClient") -> "Experiment | None":
    """Return the experiment that the environment names, deleted or not; None where its name is not taken yet."""
    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return client.get_experiment(experiment_id)
    return client.get_experiment_by_name(experiment_name())


def experiment_name() -> str:
    """Return the name of the experiment that runs are recorded in."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", "gradsift")


@contextmanager
def mlflow_errors(uri: str, failure: str) -> Iterator[None]:
    """Turn whatever MLflow, its stores and its plugins raise into one sentence without credentials.

    Args:
        uri: the server's address.
        failure: what the server did not do, for the sentence.

    Raises:
        TrackingOutageError: the server cannot be reached, or is overloaded.
        TrackingError: instead of any other error of the block that is not ours.
    """
    try:
        yield
    except GradsiftError:
        raise
    except Exception as error:
        address = urlsplit(uri)
        shown = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
        reason = redacted(" ".join(_reason(error).split()))
        kind = TrackingOutageError if _is_outage(error) else TrackingError
        raise kind(f"MLflow at {shown} {failure}: {reason[:300].rstrip('.')}.") from error


def _is_outage(error: Exception) -> bool:
    """Say whether a server cannot be reached or is overloaded; a database in a file is no server."""
    from requests.exceptions import ConnectionError, RetryError, SSLError, Timeout  # type: ignore[import-untyped]
    from sqlalchemy.exc import OperationalError

    for cause in _causes(error):
        if isinstance(cause, OperationalError):
            return not isinstance(cause.orig, sqlite3.Error)
        if isinstance(cause, ConnectionError | RetryError | Timeout):
            return not isinstance(cause, SSLError)
    return False


def _reason(error: BaseException) -> str:
    """Return the network's own words where it is at fault, otherwise MLflow's."""
    *_, cause = _causes(error)
    return str(cause if isinstance(cause, OSError) else error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, what it was raised from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
