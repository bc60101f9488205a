"""Works on several nodes: makes or finds a step's TrainJob, follows it to its end, and says why it failed.

The TrainJob's name is that of the run and the step, so a step that is tried again finds the one of its earlier
try. Only the TrainJob's conditions decide how it ended, never its log.
"""

import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from queue import Empty
from typing import IO, Any

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.kubeflow_trainer.kubernetes_api import KubernetesApi, Thing
from gradsift.components.shared.kubeflow_trainer.node import EVENT, FAILURES, LOGS
from gradsift.components.shared.kubeflow_trainer.train_job import TrainJob
from gradsift.components.shared.kubeflow_trainer.train_job_failure import (
    Failure,
    collect_failure,
    write_report,
)
from gradsift.components.shared.kubeflow_trainer.train_job_log import TrainJobLog
from gradsift.components.shared.kubeflow_trainer.train_job_payload import (
    RUNTIME,
    RUNTIME_VARIABLE,
    creation_time,
    gpu_count,
    rank_of,
    train_job_payload,
)
from gradsift.components.shared.kubeflow_trainer.train_node import write_jobs
from gradsift.components.shared.process.lifeline import exit_on_sigterm
from gradsift.components.shared.storage.storage import delete_below, open_storage
from gradsift.components.shared.tracking.event_log import run_id
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import LOG, report

POLL_SECONDS = 10.0
"""Between two looks at the TrainJob, give or take a fifth."""
RESTARTS = 5
"""How many times one try of the step may recreate a TrainJob that lost a node; it continues from its checkpoint."""
NODE = "gradsift.components.shared.kubeflow_trainer.train_node"


def run_train_job(
    jobs: Sequence[TrainingJob],
    uri: str | None,
    scratch: Path,
    tracker: StepTracker,
    node_resources: Mapping[str, Any],
) -> None:
    """Train the jobs on several nodes; their results are at the address afterwards.

    SIGTERM deletes the TrainJob.

    Args:
        jobs: what to train; their recipes agree on the number of nodes and processes.
        uri: the jobs' place under the run root on S3, or None where the run root is a local path.
        scratch: folder for the first node's log.
        tracker: gets the losses and the progress, and knows run and step.
        node_resources: what each node gets: `cpu`, `memory`, and GPUs by their resource name.

    Raises:
        InputError: a job's model or data cannot be used, the name of the training runtime is wrong, or other nodes
            cannot reach the run root.
        TrainingError: the TrainJob failed.
        KubernetesError: the cluster refused a request, or stayed out of reach.
    """
    recipe = jobs[0].recipe
    if uri is None:
        raise InputError(
            f"Parameter nodes is {recipe.nodes}: expected 1, as the run root {tracker.root_uri} is a local path, "
            "which other nodes cannot reach."
        )
    processes = recipe.processes or gpu_count(node_resources) or 1
    for job in jobs:
        job.recipe.check_batch(recipe.nodes * processes)
    command = ["python", "-P", "-m", NODE, uri, write_jobs(jobs, uri)]
    run_on_nodes(command, recipe.nodes, processes, node_resources, uri, scratch, tracker)


def run_on_nodes(
    command: Sequence[str],
    nodes: int,
    processes: int,
    node_resources: Mapping[str, Any],
    uri: str,
    scratch: Path,
    tracker: StepTracker,
) -> None:
    """Run a command on several nodes to its end; `node` is what it does there around its work.

    SIGTERM deletes the TrainJob.

    Args:
        command: what every node runs.
        nodes: their number.
        processes: number of processes that the command starts on each.
        node_resources: what each node gets: `cpu`, `memory`, and GPUs by their resource name.
        uri: address for what nodes leave behind where they fail.
        scratch: folder for the first node's log.
        tracker: gets the first node's events, and knows run and step.

    Raises:
        GradsiftError: a node failed, for this reason.
        TrainingError: the TrainJob failed.
        KubernetesError: the cluster refused a request, or stayed out of reach.
    """
    api = KubernetesApi()
    runtime = os.environ.get(RUNTIME_VARIABLE, RUNTIME)
    payload = train_job_payload(
        run_id(), tracker.step, api.own_pod(), runtime, nodes, processes, node_resources, command
    )
    train_job = TrainJob(api, payload["metadata"]["name"])
    with _deleted_on_sigterm(train_job), (scratch / LOG).open("a") as log:
        for restarts in count():
            failure = _run_once(train_job, payload, uri, log, tracker)
            if failure is None:
                return
            if not failure.disrupted or restarts == RESTARTS:
                raise failure.error(write_report(failure, open_storage(uri)))
            _say(
                f"TrainJob {train_job.name} lost a node; it is recreated, to go on with what is not finished."
            )


def _run_once(
    train_job: TrainJob, payload: Thing, uri: str, log: IO[str], tracker: StepTracker
) -> Failure | None:
    """Run the TrainJob to its end and return what is known of its failure, or None if it completed."""
    storage = open_storage(uri)
    if not train_job.adopt(payload):
        delete_below(storage, f"{LOGS}/")
        delete_below(storage, f"{FAILURES}/")
        train_job.create(payload)
    with TrainJobLog(train_job.api, train_job.name) as lines:
        state, pods = _wait(train_job, lines, log, tracker)
        lines.finish(seconds=5.0)
        _pass_on(lines, log, tracker, 0.0)
    if state["type"] == "Complete":
        return None
    return collect_failure(train_job.api, storage, train_job.name, _words(state), pods)


def _wait(
    train_job: TrainJob, lines: TrainJobLog, log: IO[str], tracker: StepTracker
) -> tuple[Thing, list[Thing]]:
    """Wait until the TrainJob ends; return its last condition, and each node's last pod as it was last seen."""
    shown = ""
    pods: dict[int, Thing] = {}
    while True:
        state = train_job.state()
        if _words(state) != shown:
            shown = _words(state)
            _say(f"TrainJob {train_job.name}: {shown}")
        pods |= {rank_of(pod): pod for pod in sorted(train_job.pods(), key=creation_time)}
        if state["type"] in {"Complete", "Failed"}:
            return state, list(pods.values())
        _pass_on(lines, log, tracker, POLL_SECONDS * random.uniform(0.8, 1.2))


def _pass_on(lines: TrainJobLog, log: IO[str], tracker: StepTracker, seconds: float) -> None:
    """Pass on lines of the first node's log for so many seconds, or those that are there."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            line = lines.lines.get(timeout=left) if left > 0 else lines.lines.get_nowait()
        except Empty:
            return
        text, is_event, event = line.partition(EVENT)  # after a progress bar, which ends no line
        if is_event:
            with suppress(ValueError):
                report(json.loads(event), tracker)
        if text or not is_event:
            log.write(f"{text}\n")
            log.flush()
            _say(text)


@contextmanager
def _deleted_on_sigterm(train_job: TrainJob) -> Iterator[None]:
    try:
        with exit_on_sigterm():
            yield
    except (SystemExit, KeyboardInterrupt):
        train_job.delete(patience=15.0)
        raise


def _words(state: Thing) -> str:
    reasons = [state.get("reason", ""), state.get("message", "")]
    return ": ".join([state["type"].lower(), *filter(None, reasons)])


def _say(text: str) -> None:
    print(text, flush=True)
