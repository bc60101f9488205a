"""What every node of a TrainJob runs: gets data and jobs from the run root, trains, and tells how that went.

The first node's log carries losses and progress to the launcher, one JSON value a line after `EVENT`. What is
finished is kept on S3 by the training processes themselves (see `progress`). A node that fails leaves the
end of its log there, and why, if it knows.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import StepOutput, digest_of, fetch, origin_of
from gradsift.components.shared.errors import GradsiftError, InputError
from gradsift.components.shared.process.gpus import check_gpus
from gradsift.components.shared.process.lifeline import exit_on_sigterm
from gradsift.components.shared.process.outages import wait_through_outages
from gradsift.components.shared.process.pod_environment import given_gpus
from gradsift.components.shared.process.protection import protect_process
from gradsift.components.shared.storage.scratch import scratch_path
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import LOG, failure_of, run_processes
from gradsift.components.shared.training.progress import TrainingProgress

EVENT = "gradsift-event "
LOGS = "logs"
FAILURES = "failures"
LOG_END_BYTES = 256 * 1024


def write_jobs(jobs: Sequence[TrainingJob], uri: str) -> str:
    """Write down for the nodes what to train, and return the key that they find it by, a digest of it.

    Raises:
        InputError: the data are not on S3, where nodes could get them.
    """
    outputs = {}
    for folder in {job.data for job in jobs} | {job.start for job in jobs if job.start is not None}:
        output = origin_of(folder)
        if output is None:
            raise InputError(
                f"The folder {folder} is not a copy of data on S3, which other nodes could get too."
            )
        outputs[str(folder)] = {"uri": output.uri, "digest": output.digest}
    content = {"jobs": [job.to_json() for job in jobs], "outputs": outputs}
    key = f"jobs-{digest_of(content)[:16]}.json"
    open_storage(uri).write(key, json.dumps(content).encode())
    return key


def read_jobs(uri: str, key: str, folder: Path) -> list[TrainingJob]:
    """Return the jobs that `write_jobs` wrote, with their data fetched and their results to go below `folder`."""
    content = json.loads(open_storage(uri).read(key))
    fetched = {
        path: fetch(StepOutput(output["uri"], output["digest"], {}))
        for path, output in content["outputs"].items()
    }
    jobs = [TrainingJob.from_json(job) for job in content["jobs"]]
    return [
        replace(
            job,
            folder=folder / job.folder.name,
            data=fetched[str(job.data)],
            start=None if job.start is None else fetched[str(job.start)],
        )
        for job in jobs
    ]


def main(uri: str, key: str) -> None:
    """Train the jobs together with the other nodes, which Kubeflow Trainer's `PET_*` variables name.

    Args:
        uri: the jobs' place under the run root.
        key: of the list of jobs there.
    """
    scratch = scratch_path("train-node")
    scratch.mkdir(parents=True, exist_ok=True)
    rank = os.environ["PET_NODE_RANK"]
    try:
        with exit_on_sigterm():  # as process 1 of a container, it would go on otherwise
            _train(uri, key, scratch)
    except BaseException as error:
        if (scratch / LOG).exists():
            _leave(uri, f"{LOGS}/{rank}.log", _end_of(scratch / LOG))
        if not isinstance(error, GradsiftError):
            raise
        failure = {"time": time.time(), **failure_of(error)}
        _leave(uri, f"{FAILURES}/{rank}.json", json.dumps(failure).encode())
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _train(uri: str, key: str, scratch: Path) -> None:
    check_gpus(given_gpus())
    jobs = read_jobs(uri, key, scratch / "results")
    progress = TrainingProgress(uri)
    unfinished = [job for job in jobs if not progress.has_result(job.folder)]
    os.environ["TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"] = "[rank${rank}]: "
    count = int(os.environ["PET_NPROC_PER_NODE"])
    if unfinished:
        run_processes(unfinished, ["--tee=3"], count, scratch, uri, _tell, _echo)


def _tell(event: dict[str, Any]) -> None:
    print(f"{EVENT}{json.dumps(event)}", flush=True)


def _echo(line: str) -> None:
    print(line, end="", flush=True)


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


if __name__ == "__main__":
    protect_process()
    wait_through_outages()
    main(sys.argv[1], sys.argv[2])
