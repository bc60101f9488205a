"""Starts a run of the pipeline on Kubeflow, and follows it to its end."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run, V2beta1RuntimeConfig
from rich.console import Console

from gradsift.components.shared.errors import InputError, RunFailedError
from gradsift.pipelines.kubeflow_client import Kubeflow, KubeflowDownError
from gradsift.pipelines.kubeflow_objects import MAX_NAME, CompiledPipeline, ensure_experiment, ensure_version

FINISHED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
POLL = 10.0
"""Seconds between two looks at a run."""
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
        parameters: the parameters that differ from their defaults, checked.
        experiment: name of the run's experiment, made if it is not there yet.
        run_name: name of the run; None means the pipeline's name and the time.
        service_account: the Kubernetes service account of the run's pods; None means Kubeflow's own.

    Returns:
        The run's id.

    Raises:
        InputError: a name is empty or too long; Kubeflow cannot be reached, or refused the run.
    """
    name = f"{pipeline.name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC" if run_name is None else run_name
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


def follow(kubeflow: Kubeflow, run_id: str, pipeline: CompiledPipeline, console: Console) -> None:
    """Wait for a run's end, and print a line each time that something of it changes.

    Raises:
        RunFailedError: the run failed or was stopped; the message names the tasks that failed.
        InputError: Kubeflow could not be asked any more; the run goes on.
    """
    url = kubeflow.url(f"runs/details/{run_id}")
    said = None
    while True:
        try:
            run = kubeflow.call(
                kubeflow.client.runs.run_service_get_run, run_id, retry_timeout=FOLLOW_TIMEOUT
            )
        except InputError as error:
            raise InputError(f"{error} The run is no longer followed, but goes on: see {url}.") from None
        state = run.state or "PENDING"
        if (line := _line(state, _task_details(run), pipeline.tasks)) != said:
            console.print(f"{datetime.now():%H:%M:%S} {line}", highlight=False, markup=False)
            said = line
        if state in FINISHED:
            break
        time.sleep(POLL)
    if state not in {"SUCCEEDED", "SKIPPED"}:
        raise RunFailedError(_failure(run, pipeline.tasks, url))


def _line(state: str, details: list[V2beta1PipelineTaskDetail], tasks: set[str]) -> str:
    running = [name for name in _names(details, {"RUNNING"}) if name in tasks]
    done = [
        name for name in _names(details, {"SUCCEEDED", "SKIPPED"}) if name in tasks and name not in running
    ]
    return f"{state.lower()}, {len(done)} done" + (f", now {', '.join(running)}" if running else "")


def _failure(run: V2beta1Run, tasks: set[str], url: str) -> str:
    # A task's driver, which prepares its inputs, fails before the task is there.
    names = dict.fromkeys(name.removesuffix("-driver") for name in _names(_task_details(run), {"FAILED"}))
    failed = [name for name in names if name in tasks]
    where = f" in {', '.join(failed)}" if failed else ""
    reason = f" ({' '.join(run.error.message.split())})" if run.error and run.error.message else ""
    what = "was stopped" if run.state == "CANCELED" else "failed"
    return f"The run {what}{where}{reason}: see {url}."


def _task_details(run: V2beta1Run) -> list[V2beta1PipelineTaskDetail]:
    return (run.run_details and run.run_details.task_details) or []


def _names(details: list[V2beta1PipelineTaskDetail], states: set[str]) -> list[str]:
    """Return the names of the workflow's nodes in some states, once each, in order.

    Only some of them are tasks: the API lists drivers, executors and loops too, and `name(1)` for a second try.
    """
    names = (detail.display_name or "" for detail in details if detail.state in states)
    return list(dict.fromkeys(re.sub(r"\([\d:,]+\)$", "", name) for name in names))
