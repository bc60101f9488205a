"""How MLflow is reached: where it is, how patiently it is asked, and its errors as one sentence."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, quote

from gradsift.components.shared.credentials import redacted
from gradsift.components.shared.errors import GradsiftError, TrackingError, TrackingOutageError
from gradsift.components.shared.storage.addresses import is_remote, split_address

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
SQLITE = "sqlite"
CONNECT_TIMEOUTS = {SQLITE: "timeout", "mssql": "timeout"}
"""What drivers call the seconds to connect, where it is not `connect_timeout`."""
LATER = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}

T = TypeVar("T")


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
    with environment({**QUIET, **FIRST_CONTACT}):
        experiment = within_limit(uri, lambda: _ask(uri))
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"The MLflow experiment {experiment.name!r} is deleted: restore it, or name another one in "
            "MLFLOW_EXPERIMENT_NAME."
        )


def _ask(uri: str) -> "Experiment | None":
    """Return the experiment; a database is asked first, as MLflow itself tries to reach one for two minutes."""
    import sqlalchemy
    from mlflow import MlflowClient

    if kind := _database_of(uri):
        address = sqlalchemy.make_url(uri)
        if kind == SQLITE and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)  # as MLflow does
        limit = {CONNECT_TIMEOUTS.get(kind, "connect_timeout"): DATABASE_SECONDS}
        engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool, connect_args=limit)
        engine.connect().close()
    return find_experiment(MlflowClient(uri))


def _database_of(uri: str) -> str:
    """Return which database an address is of, such as "postgresql"; an empty text for a server of MLflow."""
    from mlflow.store.db.db_types import DATABASE_ENGINES

    kind = _parts(uri).scheme.partition("+")[0]
    return kind if kind in DATABASE_ENGINES else ""


def within_limit(uri: str, request: Callable[[], T], seconds: float | None = None) -> T:
    """Return what a request to MLflow returns; one to a database server is left behind where it takes too long.

    Args:
        uri: the address of MLflow. Requests by HTTP have a limit of their own, and a file answers at once.
        request: is made in another thread if it has a limit.
        seconds: how long it may take; None: `ANSWER_SECONDS`.

    Raises:
        TrackingOutageError: it took longer.
    """
    if _database_of(uri) in ("", SQLITE):
        return request()
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(request())
        except Exception as error:
            answer.set_exception(error)

    limit = ANSWER_SECONDS if seconds is None else seconds
    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(limit)
    except TimeoutError as error:
        if answer.done():
            raise
        raise TrackingOutageError(
            f"The MLflow database lets us in and has not answered for {limit:.0f} seconds."
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
        address = _parts(uri)
        shown = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
        reason = redacted(" ".join(_reason(error).split()))
        kind = TrackingOutageError if _is_outage(error) else TrackingError
        raise kind(f"MLflow at {shown} {failure}: {reason[:300].rstrip('.')}.") from error


def _parts(uri: str) -> SplitResult:
    return split_address(uri, "that of an MLflow server or database in MLFLOW_TRACKING_URI")


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
