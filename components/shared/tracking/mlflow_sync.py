"""Sends MLflow the events that steps recorded and that it has not got yet.

Beside each log, `<step>.sent.json` counts the events that each server has. Sending an event a second time
changes nothing in MLflow (see `mlflow_runs`), so a sync killed between an event and its count just goes on
the next time. MLflow, which takes a second to import, is imported only when there is something to send.
"""

import fcntl
import gc
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import digest_of
from gradsift.components.shared.documents.json_document import load_json_object
from gradsift.components.shared.errors import GradsiftError, TrackingError, TrackingOutageError
from gradsift.components.shared.process.protection import protect_process
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.local import LocalStorage, open_to_append
from gradsift.components.shared.storage.storage import Storage, open_storage
from gradsift.components.shared.tracking.event_log import FOLDER, PIPELINE, read_events
from gradsift.components.shared.tracking.mlflow_connection import (
    LATER,
    QUIET,
    contact,
    environment,
    mlflow_errors,
    tracking_uri,
    within_limit,
)

LOCK_SECONDS = 10.0
EVENTS_SECONDS = 600.0
"""A database has this long to take events of one kind."""
WITH_FILES = ("artifact", "model")
"""Events that files are sent with, however long that takes."""
READERS = 8
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SyncResult:
    """What a sync did.

    Attributes:
        events: how many events it sent.
        runs: how many pipeline runs they were of.
    """

    events: int
    runs: int


@dataclass(frozen=True)
class StepLog:
    """One step's log, and how many of its events each server has (by the digest of the server's address)."""

    run: str
    step: str
    events: list[dict[str, Any]]
    sent: dict[str, int]

    def beginning(self, attempt: int) -> dict[str, Any]:
        """Return the event that started the attempt (the log's first event where none did)."""
        starts = [event for event in self.events if event["event"] == "start"]
        return starts[attempt - 1] if starts and attempt else self.events[0]

    def count_unsent(self, server: str) -> int:
        """Return how many events the server has not got."""
        return len(self.events) - self.sent.get(server, 0)

    def unsent(self, server: str) -> Iterator[tuple[str, int, list[dict[str, Any]], int]]:
        """Yield what the server has not got: runs of events of one kind.

        Yields:
            kind: what the events are.
            attempt: which start of the step they belong to, from 1.
            events: the events.
            end: how many events the server has with these.
        """
        attempts = accumulate(int(event["event"] == "start") for event in self.events)
        numbered = list(enumerate(zip(self.events, attempts, strict=True), start=1))
        unsent = numbered[self.sent.get(server, 0) :]
        for (kind, attempt), group in groupby(unsent, key=lambda item: (item[1][0]["event"], item[1][1])):
            members = list(group)
            yield kind, attempt, [event for _, (event, _) in members], members[-1][0]


def sync(root_uri: str, run: str | None = None) -> SyncResult:
    """Send MLflow the unsent events under a run root, the oldest run first.

    Args:
        root_uri: the run root, a local path or an `s3://` address.
        run: only this pipeline run, otherwise all.

    Raises:
        TrackingOutageError: MLflow cannot be reached, or another sync is at it.
        TrackingError: MLflow does not let us in.
        StorageError: the logs cannot be read.
    """
    uri = tracking_uri(root_uri)
    if uri is None:
        logger.info(
            "MLFLOW_TRACKING_URI is not set: nothing is sent to MLflow, the logs stay in %s.", root_uri
        )
        return SyncResult(0, 0)
    storage = open_storage(join_uri(root_uri, FOLDER))
    server = digest_of(uri)[:16]
    artifact_location = _artifact_location(root_uri)
    with _one_at_a_time(storage):
        logs = _unsent_logs(storage, server, run)
        result = SyncResult(sum(log.count_unsent(server) for log in logs), len({log.run for log in logs}))
        if logs:
            with (
                environment({"MLFLOW_TRACKING_URI": uri, **QUIET}),
                mlflow_errors(uri, "did not take the tracking events"),
            ):
                _send(logs, storage, uri, server, artifact_location)
    return result


def _unsent_logs(storage: Storage, server: str, run: str | None) -> list[StepLog]:
    """Return the logs with unsent events: runs by age, their steps by age, the pipeline's own log last."""
    keys = [key for key in storage.keys(f"{run}/" if run else "") if key.endswith(".jsonl")]
    with ThreadPoolExecutor(READERS) as pool:
        logs = [log for log in pool.map(lambda key: _read(storage, key), keys) if log.events]
    began = _beginnings(logs)
    logs.sort(key=lambda log: (began[log.run], log.run, log.step == PIPELINE, log.events[0]["time"]))
    return [log for log in logs if log.count_unsent(server)]


def _beginnings(logs: list[StepLog]) -> dict[str, float]:
    """Return for each pipeline run the time of its first event."""
    began: dict[str, float] = {}
    for log in logs:
        began[log.run] = min(began.get(log.run, math.inf), log.events[0]["time"])
    return began


def _read(storage: Storage, key: str) -> StepLog:
    run, step = key.removesuffix(".jsonl").rsplit("/", 1)
    state = _state_key(run, step)
    sent = (
        load_json_object(storage.read(state), join_uri(storage.uri, state)) if storage.exists(state) else {}
    )
    if not all(type(count) is int and count >= 0 for count in sent.values()):
        raise TrackingError(
            f"{join_uri(storage.uri, state)} does not count events: expected numbers, or no such file, to send "
            "all events again."
        )
    return StepLog(run, step, read_events(storage.read(key)), sent)


def _state_key(run: str, step: str) -> str:
    return f"{run}/{step}.sent.json"


def _send(
    logs: list[StepLog], storage: Storage, uri: str, server: str, artifact_location: str | None
) -> None:
    from gradsift.components.shared.tracking.mlflow_runs import MlflowRuns

    contact(uri)
    began = _beginnings(logs)
    with environment(LATER):
        mlflow_runs = within_limit(uri, partial(MlflowRuns, artifact_location))
        for log in logs:
            for kind, attempt, events, end in log.unsent(server):
                start = log.beginning(attempt)
                find = partial(mlflow_runs.find, log.run, began[log.run], log.step, attempt, start)
                target = within_limit(uri, find)
                if target is not None:
                    send = partial(target.send, kind, events)
                    send() if kind in WITH_FILES else within_limit(uri, send, EVENTS_SECONDS)
                log.sent[server] = end
                storage.write(_state_key(log.run, log.step), json.dumps(log.sent).encode())


def _artifact_location(root_uri: str) -> str | None:
    """Return where artifacts go in the default store; a server has its own place."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    return (Path(root_uri).absolute() / "mlflow-artifacts").as_uri()


@contextmanager
def _one_at_a_time(storage: Storage) -> Iterator[None]:
    """Keep a second sync of the same local root out; on S3 there is no lock to take."""
    if not isinstance(storage, LocalStorage) or not storage.root.is_dir():
        yield
        return
    with open_to_append(storage.root / ".lock") as file:
        _lock(file.fileno(), storage.uri)
        yield


def _lock(descriptor: int, where: str) -> None:
    limit = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                raise TrackingOutageError(f"Another sync of {where} is still at work.") from None
            time.sleep(0.1)


def main() -> None:
    """Sync as a process of its own: arguments are the run root and, perhaps, one run's id.

    The process is short, so it collects no garbage and takes nothing down in the end: that saves a second of
    three, which every step waits for.
    """
    protect_process()
    gc.disable()
    try:
        sync(*sys.argv[1:])
    except GradsiftError as error:
        print(error, flush=True)
        os._exit(2)
    os._exit(0)


if __name__ == "__main__":
    main()
