"""What every node of a TrainJob does around its work: it passes events on, and leaves behind why it failed.

The first node's log carries progress to the launcher, one JSON value a line after `EVENT`. A node that fails leaves
the end of its log under the run root, and why, if it knows.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gradsift.components.shared.errors import GradsiftError
from gradsift.components.shared.process.lifeline import exit_on_sigterm
from gradsift.components.shared.storage.scratch import scratch_path
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.training.processes import LOG, failure_of

EVENT = "gradsift-event "
LOGS = "logs"
FAILURES = "failures"
LOG_END_BYTES = 256 * 1024
RANK = "PET_NODE_RANK"
"""Environment variable in which Kubeflow Trainer numbers the nodes from 0."""


def run_node(uri: str, work: Callable[[Path], None]) -> None:
    """Do a node's work, given a scratch folder.

    Args:
        uri: address for what the node leaves behind where it fails.
        work: the work.

    Raises:
        SystemExit: the work failed for a reason that is known.
    """
    scratch = scratch_path("node")
    scratch.mkdir(parents=True, exist_ok=True)
    rank = os.environ[RANK]
    try:
        with exit_on_sigterm():  # as process 1 of a container, it would go on otherwise
            work(scratch)
    except BaseException as error:
        if (scratch / LOG).exists():
            _leave(uri, f"{LOGS}/{rank}.log", _end_of(scratch / LOG))
        if not isinstance(error, GradsiftError):
            raise
        failure = {"time": time.time(), **failure_of(error)}
        _leave(uri, f"{FAILURES}/{rank}.json", json.dumps(failure).encode())
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def pass_on(event: Mapping[str, Any]) -> None:
    """Give the launcher an event, such as progress, by the log."""
    print(f"{EVENT}{json.dumps(event)}", flush=True)


def _leave(uri: str, key: str, content: bytes) -> None:
    """Leave something on S3 for the launcher; that this fails must not hide why."""
    try:
        open_storage(uri).write(key, content)
    except GradsiftError as error:
        print(error, file=sys.stderr)


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_END_BYTES))
        return file.read()
