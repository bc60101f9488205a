"""The log of one step and run: one JSON line an event, at `<root>/tracking/<run id>/<step>.jsonl`.

Where the root is on S3, the log grows in a scratch folder and is uploaded now and then.

A line has `time` (unix seconds), `event`, and what belongs to that event:

    start     step, params, run_name?, mlflow_run_id?     a step that is tried again has a second start
    metric    values, step?
    progress  done, total, unit
    dataset   name, uri, digest, context, rows
    artifact  uri, digest, name, artifact_path            one file of a step output
    model     uri, digest                                 a step output that is the final model
    end       status (finished, reused, failed), seconds; if it failed: error, kind, input_error
"""

import json
import os
import re
import time
from pathlib import Path
from types import UnionType
from typing import Any, TypeGuard

from gradsift.components.shared.artifacts.step_output import work_folder
from gradsift.components.shared.credentials import redacted_json
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.addresses import is_remote, join_uri
from gradsift.components.shared.storage.local import LocalStorage, local_error, open_to_append
from gradsift.components.shared.storage.storage import open_storage

FOLDER = "tracking"
PIPELINE = "pipeline"
OUTPUT: dict[str, type | UnionType] = {"uri": str, "digest": str}
NUMBER = int | float
FIELDS: dict[str, dict[str, type | UnionType]] = {
    "start": {"params": dict},
    "metric": {"values": dict},
    "progress": {"done": NUMBER, "total": NUMBER, "unit": str},
    "dataset": {**OUTPUT, "name": str, "context": str, "rows": int},
    "artifact": {**OUTPUT, "name": str, "artifact_path": str},
    "model": OUTPUT,
    "end": {"status": str},
}
"""What an event cannot be read without, by its kind."""
OPTIONAL: dict[str, dict[str, type | UnionType]] = {
    "start": {"run_name": str, "mlflow_run_id": str},
    "metric": {"step": int},
    "end": {"seconds": NUMBER, "error": str, "kind": str, "input_error": bool},
}
STATUSES = {"finished", "reused", "failed"}
MAX_NUMBER = 1e15
"""Bound of times, counts and seconds; only a metric may be larger, infinite or no number."""


def run_id() -> str:
    """Return the pipeline run's id: the environment's `KFP_RUN_ID`, or "local" outside a pipeline.

    Raises:
        InputError: it cannot be a file name.
    """
    return _file_name(os.environ.get("KFP_RUN_ID") or "local", "The run id in KFP_RUN_ID")


def append_event(path: Path, event: str, **fields: Any) -> None:
    """Append one event, redacted, to a log on the local disk; other processes see the whole line or nothing.

    Raises:
        StorageError: the log cannot be written.
    """
    line = json.dumps(redacted_json({"time": time.time(), "event": event, **fields}))
    with open_to_append(path) as file:
        try:
            file.write(line.encode() + b"\n")
        except OSError as error:
            raise local_error("write", path, error) from error


def _is_event(found: Any) -> TypeGuard[dict[str, Any]]:
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        return False
    kind = found["event"]
    given = {name: form for name, form in OPTIONAL.get(kind, {}).items() if name in found}
    forms = {"time": NUMBER, **FIELDS.get(kind, {}), **given}
    if not all(_fits(found.get(name), form) for name, form in forms.items()):
        return False
    if kind == "metric":
        return all(isinstance(value, float) or _fits(value, int) for value in found["values"].values())
    return kind != "end" or found["status"] in STATUSES


def _fits(value: Any, form: type | UnionType) -> bool:
    if form in (int, NUMBER) and isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
        return False
    return isinstance(value, form)


def read_events(content: bytes) -> list[dict[str, Any]]:
    """Return the events in a log's content, without lines that hold none, as a killed process leaves one behind."""
    events = []
    for line in content.splitlines(keepends=True):
        try:
            event = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            continue
        if _is_event(event):
            events.append(event)
    return events


class EventLog:
    """The log of one step and run, appended to on the local disk."""

    def __init__(self, root_uri: str, step: str) -> None:
        self.root_uri = root_uri
        self.run = run_id()
        self.step = step
        self._key = f"{self.run}/{_file_name(step, 'The step')}.jsonl"
        self._uri = join_uri(root_uri, FOLDER)
        self._storage = open_storage(self._uri)
        if isinstance(self._storage, LocalStorage):
            self._path = self._storage.root / self._key
        else:
            self._path = work_folder(root_uri, FOLDER) / self._key
        self._continue()

    def append(self, event: str, **fields: Any) -> None:
        """Append one event."""
        append_event(self._path, event, **fields)

    def upload(self, waits: bool) -> None:
        """Copy the log to the run root, where that is remote; `waits` through an outage, or not."""
        if is_remote(self.root_uri):
            open_storage(self._uri, waits).upload(self._path, self._key)

    def close(self, waits: bool = True) -> None:
        """Upload the log for the last time; the scratch copy stays only if that fails."""
        self.upload(waits)
        if is_remote(self.root_uri):
            self._path.unlink()

    def _continue(self) -> None:
        """Get the log of an earlier try, and close a line that was cut short when that was killed."""
        if not self._path.exists() and is_remote(self.root_uri) and self._storage.exists(self._key):
            self._storage.download(self._key, self._path)
        with open_to_append(self._path) as file:
            if file.tell() and not self._path.read_bytes().endswith(b"\n"):
                file.write(b"\n")


def _file_name(name: str, what: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise InputError(f"{what}, {name!r}, is not allowed: expected letters, digits, '.', '_' and '-'.")
    return name
