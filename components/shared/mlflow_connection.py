"""How MLflow is reached: where it is, how patiently it is asked, and its errors as one sentence."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from gradsift.components.shared.errors import GradsiftError, TrackingError
from gradsift.components.shared.storage import is_remote

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
# A server that is down is given up after ten seconds; one that answered may take its time.
FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
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


@contextmanager
def mlflow_errors(uri: str, failure: str) -> Iterator[None]:
    """Turn whatever MLflow, its stores and its plugins raise into one sentence without credentials.

    Args:
        uri: the server's address.
        failure: what the server did not do, for the sentence.

    Raises:
        TrackingError: instead of any error of the block that is not ours.
    """
    try:
        yield
    except GradsiftError:
        raise
    except Exception as error:
        address = urlsplit(uri)
        login, _, host = address.netloc.rpartition("@")
        reason = " ".join(_reason(error).split())
        if login:
            reason = reason.replace(login, "***")
        shown = f"{address.scheme}://{host}{address.path}"
        raise TrackingError(f"MLflow at {shown} {failure}: {reason[:300].rstrip('.')}.") from error


def _reason(error: BaseException) -> str:
    """Return the network's own words where it is at fault, otherwise MLflow's."""
    cause = error
    while (earlier := cause.__cause__ or cause.__context__) is not None:
        cause = earlier
    return str(cause if isinstance(cause, OSError) else error)
