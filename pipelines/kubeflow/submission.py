"""Starts a run of the pipeline on Kubeflow, and follows it to its end."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kfp_server_api import V2beta1Run, V2beta1RuntimeConfig
from rich.console import Console

from gradsift.components.shared.errors import InputError, RunFailedError
from gradsift.pipelines.kubeflow.client import Kubeflow, KubeflowDownError
from gradsift.pipelines.kubeflow.objects import MAX_NAME, CompiledPipeline, ensure_experiment, ensure_version
from gradsift.pipelines.kubeflow.run_progress import FINISHED, Progress, RunProgress

POLL = 10.0
"""Seconds between two looks at a run."""
PROGRESS_SECONDS = 300.0
"""Seconds between two lines that differ in the progress of a step alone."""
FOLLOW_TIMEOUT = 1800.0
"""Seconds that a run is followed for while the API is down."""


def submit(
    kubeflow: Kubeflow,
    pipeline: CompiledPipeline,
    parameters: Mapping[str, Any],
    experiment: str,
    run_name: str | None,
    service_account: str | None,
) -> str:
    """Start a run.

    Args:
        kubeflow: the API.
        pipeline: what is run; uploaded if it is not there yet.
        parameters: all fields of the form, checked: "Clone run" shows what a run was given.
        experiment: name of the run's experiment, made if it is not there yet.
        run_name: name of the run; None means the pipeline's name, the target and the time.
        service_account: the Kubernetes service account of the run's pods; None means Kubeflow's own.

    Returns:
        The run's id.

    Raises:
        InputError: a name is empty or too long; Kubeflow cannot be reached, or refused the run.
    """
    name = _name(pipeline, parameters) if run_name is None else run_name
    for option, text in {"--run-name": name, "--experiment": experiment}.items():
        if not 0 < len(text) <= MAX_NAME:
            raise InputError(f"The name in {option} has {len(text)} characters: expected 1 to {MAX_NAME}.")
    version = ensure_version(kubeflow, pipeline)
    experiment_id = ensure_experiment(kubeflow, experiment)
    run = V2beta1Run(
        experiment_id=experiment_id,
        display_name=name,
        pipeline_version_reference=version,
        runtime_config=V2beta1RuntimeConfig(parameters=dict(parameters)),
        service_account=service_account,
    )
    try:
        # Not tried again: an answer that was lost may have started the run.
        return str(kubeflow.call(kubeflow.client.runs.run_service_create_run, run, retry_timeout=0).run_id)
    except KubeflowDownError as error:
        where = kubeflow.url(f"experiments/details/{experiment_id}")
        raise InputError(f"{error} The run may have started: see {where} before you try again.") from None


def _name(pipeline: CompiledPipeline, parameters: Mapping[str, Any]) -> str:
    """Return a name for a run, such as `gradsift sst2 2026-11-29 13:09`."""
    return f"{pipeline.name} {parameters['target'][:100]} {datetime.now(UTC):%Y-%m-%d %H:%M}"


def follow(kubeflow: Kubeflow, run_id: str, pipeline: CompiledPipeline, console: Console) -> None:
    """Wait for a run's end, and print a line each time that a step begins or ends, and how far it is in between.

    Raises:
        RunFailedError: the run failed or was stopped; the message names the step that failed, and why.
        InputError: Kubeflow could not be asked any more; the run goes on.
    """
    url = kubeflow.url(f"runs/details/{run_id}")
    progress_of, printer = RunProgress(pipeline), _Printer(console)
    while True:
        try:
            run = kubeflow.call(
                kubeflow.client.runs.run_service_get_run, run_id, retry_timeout=FOLLOW_TIMEOUT
            )
        except InputError as error:
            raise InputError(f"{error} The run is no longer followed, but goes on: see {url}.") from None
        progress = progress_of.look(run)
        printer.print(run.state or "PENDING", progress)
        if run.state in FINISHED:
            break
        time.sleep(POLL)
    if run.state not in {"SUCCEEDED", "SKIPPED"}:
        raise RunFailedError(_failure(run, progress, url))


class _Printer:
    """Prints what is new in each look at a run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: set[str] = set()
        self._steps = ""
        self._progress_at = 0.0

    def print(self, state: str, progress: Progress) -> None:
        for line in [progress.note, *progress.ended]:
            if line and line not in self._printed:
                self._printed.add(line)
                self._print(line)
        head = f"{state.lower()}, {progress.done} done"
        steps = ", ".join([head, *progress.running])
        long_ago = time.monotonic() - self._progress_at >= PROGRESS_SECONDS and any(progress.running.values())
        if steps != self._steps or long_ago:
            now = [f"{name} ({text})" if text else name for name, text in progress.running.items()]
            self._print(head + (f", now {', '.join(now)}" if now else ""))
            self._steps, self._progress_at = steps, time.monotonic()

    def _print(self, line: str) -> None:
        time_of_day = f"{datetime.now():%H:%M:%S}"
        self._console.print(f"{time_of_day} {line}", highlight=False, markup=False, soft_wrap=True)


def _failure(run: V2beta1Run, progress: Progress, url: str) -> str:
    before = [status.state for status in run.state_history or [] if status.state not in FINISHED]
    if run.state == "CANCELED" or before[-1:] == ["CANCELING"]:  # KFP 2.17 ends a stopped run as FAILED
        return f"The run was stopped: see {url}."
    if progress.error:
        return f"Step {progress.failed[0]} failed: {progress.error.rstrip('.')}. See {url}."
    where = f" in {', '.join(progress.failed)}" if progress.failed else ""
    return f"The run failed{where} and left no message: see {url}."
