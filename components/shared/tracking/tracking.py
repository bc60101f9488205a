"""What steps tell of themselves while they work, in logs that need no server (see `event_log`).

Where the run root is local, lines appear in a log as events happen; on S3 the log is uploaded once a minute and
when the step ends. At the same moments `mlflow_sync`, in a process of its own, sends MLflow what it has not yet
got. So MLflow can be slow, down or broken, and neither the step nor its record suffers.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.errors import GradsiftError, TrackingError, TrainingError
from gradsift.components.shared.storage.addresses import is_remote
from gradsift.components.shared.tracking.event_log import (
    PIPELINE,
    EventLog,
)

PROGRESS_SECONDS = 0.5
SEND_EVERY_SECONDS = 60.0
SEND_LIMIT_SECONDS = 600.0

logger = logging.getLogger(__name__)


@contextmanager
def track_step(step: str, root_uri: str, params: Mapping[str, Any]) -> Iterator["StepTracker"]:
    """Record what happens in the block: that it started, what it reports, and how it ended.

    An exception of the block passes through unchanged. That MLflow or the log's upload fails is one warning.

    Args:
        step: name of the step, one log each.
        root_uri: the run root, a local path or an `s3://` address.
        params: the step's settings.

    Raises:
        InputError: the run's id or the step's name cannot be a file name.
        StorageError: the run root cannot be read or written.
    """
    log = EventLog(root_uri, step)
    tracker = StepTracker(log)
    log.append("start", **_identity(step), params=dict(params))
    try:
        yield tracker
    except BaseException as error:
        tracker.end(error)
        raise
    tracker.end(None)


def record_pipeline_start(root_uri: str, params: Mapping[str, Any]) -> None:
    """Record the settings of the whole pipeline run; they are sent with its first step."""
    log = EventLog(root_uri, PIPELINE)
    log.append("start", **_identity(PIPELINE), params=dict(params))
    log.close()


def record_pipeline_end(
    root_uri: str, status: Literal["finished", "failed"], error: str | None = None
) -> None:
    """Record how the whole pipeline run ended, and send MLflow whatever of any run it has not got."""
    log = EventLog(root_uri, PIPELINE)
    log.append("end", **_identity(PIPELINE), status=status, **({"error": error} if error else {}))
    _close_and_send(log, every_run=True)


class StepTracker:
    """What a step calls, from its main process only; it also knows the step and its run root."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._began = time.monotonic()
        self._reused = False
        self._progress_at = -PROGRESS_SECONDS
        self._held_progress: dict[str, Any] | None = None
        self._sync = BackgroundSync(log.root_uri, log.run)

    @property
    def step(self) -> str:
        """Name of the step, one log each."""
        return self._log.step

    @property
    def root_uri(self) -> str:
        """The run root, a local path or an `s3://` address."""
        return self._log.root_uri

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers by name, of the training step `step` if they belong to one."""
        if not values:
            return
        at_step = {} if step is None else {"step": step}
        self._record("metric", values={name: float(value) for name, value in values.items()}, **at_step)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Record that `done` of `total` units are done; of many calls, two a second are kept and the last."""
        if self._held_progress and self._held_progress["unit"] != unit:
            self._record_held_progress()
        self._held_progress = {"time": time.time(), "done": done, "total": total, "unit": unit}
        if done >= total or time.monotonic() - self._progress_at >= PROGRESS_SECONDS:
            self._record_held_progress()

    def dataset(self, name: str, uri: str, digest: str, context: str, rows: int) -> None:
        """Record data that the step reads, for instance one task's split.

        Args:
            name: for instance the task's name.
            uri: where it lies.
            digest: digest of its content.
            context: what it is used for, for instance "training".
            rows: how many there are.
        """
        self._record("dataset", name=name, uri=uri, digest=digest, context=context, rows=rows)

    def artifact(self, output: StepOutput, name: str) -> None:
        """Record the file `name` of a step output that is worth seeing in MLflow, such as a report."""
        folder = PurePosixPath(name).parent
        where = "" if folder == PurePosixPath(".") else str(folder)
        self._record("artifact", **_output(output), name=name, artifact_path=where)

    def model(self, output: StepOutput) -> None:
        """Record the step output that is the final model, to be logged as an MLflow model."""
        self._record("model", **_output(output))

    def reused(self) -> None:
        """Say that the step found its output finished and did not run."""
        self._reused = True

    def end(self, error: BaseException | None) -> None:
        """Record how the step ended and send the rest (`track_step` calls this)."""
        self._record_held_progress()
        seconds = round(time.monotonic() - self._began, 3)
        if error is None:
            self._record("end", status="reused" if self._reused else "finished", seconds=seconds)
        else:
            self._record("end", status="failed", seconds=seconds, **_failure(error))
        self._sync.close()
        _close_and_send(self._log, waits=error is None)

    def _record_held_progress(self) -> None:
        if self._held_progress:
            self._record("progress", **self._held_progress)
            self._progress_at, self._held_progress = time.monotonic(), None

    def _record(self, event: str, **fields: Any) -> None:
        try:
            self._log.append(event, **fields)
            if self._sync.is_due():
                self._log.upload(waits=False)
                self._sync.start()
        except (OSError, GradsiftError) as error:
            logger.warning("A %s event of the step was not recorded or not uploaded yet: %s", event, error)


class BackgroundSync:
    """Sends MLflow what a pipeline run has recorded, once a minute, in processes that nobody waits for.

    Args:
        root_uri: the run root, a local path or an `s3://` address.
        run: id of the pipeline run.
    """

    def __init__(self, root_uri: str, run: str) -> None:
        self._command = _sync_command(root_uri, run)
        self._was_due_at = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def is_due(self) -> bool:
        """Return whether a minute has passed since this was last true."""
        if time.monotonic() - self._was_due_at < SEND_EVERY_SECONDS:
            return False
        self._was_due_at = time.monotonic()
        return True

    def start(self) -> None:
        """Start sending, unless the last process is still at it or sending is off."""
        if _sends() and (self._process is None or self._process.poll() is not None):
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def close(self) -> None:
        """End the process that sends, if there is one; the next one goes on where it was."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def _identity(step: str) -> dict[str, str]:
    variables = {"run_name": "GRADSIFT_RUN_NAME", "mlflow_run_id": "MLFLOW_RUN_ID"}
    found = {name: os.environ.get(variable) for name, variable in variables.items()}
    return {"step": step, **{name: value for name, value in found.items() if value}}


def _output(output: StepOutput) -> dict[str, str]:
    uri = output.uri if is_remote(output.uri) else str(Path(output.uri).absolute())
    return {"uri": uri, "digest": output.digest}


def _failure(error: BaseException) -> dict[str, Any]:
    kind = type(error).__name__
    sentence = next(iter(str(error).splitlines()), kind)
    by_user = isinstance(error, GradsiftError) and not isinstance(error, TrainingError)
    return {"error": sentence, "kind": kind, "input_error": by_user}


def _close_and_send(log: EventLog, every_run: bool = False, waits: bool = True) -> None:
    try:
        log.close(waits)
        if _sends():
            _send(log, every_run)
    except (OSError, GradsiftError) as error:
        logger.warning("%s The record is kept; `gradsift mlflow-sync` sends it to MLflow later.", error)


def _send(log: EventLog, every_run: bool) -> None:
    command = _sync_command(log.root_uri, None if every_run else log.run)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SEND_LIMIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise TrackingError(
            f"Sending to MLflow took longer than {SEND_LIMIT_SECONDS:.0f} seconds."
        ) from error
    if done.returncode:
        lines = done.stdout.splitlines()
        raise TrackingError(lines[-1] if lines else f"mlflow_sync ended with exit code {done.returncode}.")


def _sends() -> bool:
    return os.environ.get("GRADSIFT_MLFLOW") != "off"


def _sync_command(root_uri: str, run: str | None) -> list[str]:
    command = [sys.executable, "-P", "-m", "gradsift.components.shared.tracking.mlflow_sync", root_uri]
    return command if run is None else [*command, run]
