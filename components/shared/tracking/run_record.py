"""Reads what the steps of a pipeline run recorded (see `event_log`)."""

import re
from contextlib import suppress
from typing import Any

from gradsift.components.shared.artifacts.step_output import work_folder
from gradsift.components.shared.errors import StorageError
from gradsift.components.shared.storage.addresses import is_remote, join_uri
from gradsift.components.shared.storage.local import LocalStorage
from gradsift.components.shared.storage.storage import Storage, open_storage
from gradsift.components.shared.tracking.event_log import FOLDER, PIPELINE, read_events

PREFLIGHT = "preflight"


def step_events(root_uri: str, run: str) -> dict[str, list[dict[str, Any]]]:
    """Return the events of every step of a run so far, step -> events in order."""
    storage = open_storage(join_uri(root_uri, FOLDER))
    logs = {}
    if is_remote(root_uri):
        scratch = LocalStorage(work_folder(root_uri, FOLDER))
        for key in _log_keys(scratch, run):
            with suppress(StorageError):  # uploaded and removed in between: the upload is read below
                logs[key] = scratch.read(key)
    logs = {key: storage.read(key) for key in _log_keys(storage, run)} | logs
    return {
        key.removeprefix(f"{run}/").removesuffix(".jsonl"): read_events(content)
        for key, content in logs.items()
    }


def run_settings(root_uri: str, run: str) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Return each step's settings, and the seconds each took that has ended, of a run so far.

    Parts of a step that ran beside each other (`calibration-0`, `calibration-1`, ...) count as one, with the sum
    of their seconds. The preflight checks the settings of all steps: they are left out.
    """
    settings: dict[str, dict[str, Any]] = {}
    seconds: dict[str, float] = {}
    for log, events in step_events(root_uri, run).items():
        if log == PIPELINE:
            continue
        step = re.sub(r"-\d+$", "", log)
        starts = [event["params"] for event in events if event["event"] == "start"]
        ends = [event.get("seconds", 0.0) for event in events if event["event"] == "end"]
        if starts and starts[-1] and step != PREFLIGHT:
            settings.setdefault(step, starts[-1])
        if ends:
            seconds[step] = seconds.get(step, 0.0) + ends[-1]
    return settings, seconds


def _log_keys(storage: Storage, run: str) -> list[str]:
    return [key for key in storage.keys(f"{run}/") if key.endswith(".jsonl")]
