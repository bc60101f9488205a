"""What every node of a TrainJob runs that trains: it gets data and jobs from the run root, and trains.

What is finished is kept on S3 by the training processes themselves (see `progress`).
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gradsift.components.shared.artifacts.step_output import StepOutput, digest_of, fetch, origin_of
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.kubeflow_trainer.node import pass_on, run_node
from gradsift.components.shared.process.gpus import check_gpus
from gradsift.components.shared.process.outages import wait_through_outages
from gradsift.components.shared.process.pod_environment import given_gpus
from gradsift.components.shared.process.protection import protect_process
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import run_processes
from gradsift.components.shared.training.progress import TrainingProgress


def write_jobs(jobs: Sequence[TrainingJob], uri: str) -> str:
    """Write down for the nodes what to train, and return the key that they find it by, a digest of it.

    Raises:
        InputError: the data are not on S3, where nodes could get them.
    """
    outputs = {}
    starts = {job.start for job in jobs if job.start is not None} - {job.folder for job in jobs}
    for folder in {job.data for job in jobs} | starts:
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
            start=None if job.start is None else fetched.get(str(job.start), folder / job.start.name),
        )
        for job in jobs
    ]


def main(uri: str, key: str) -> None:
    """Train the jobs together with the other nodes, which Kubeflow Trainer's `PET_*` variables name.

    Args:
        uri: the jobs' place under the run root.
        key: of the list of jobs there.
    """
    run_node(uri, lambda scratch: _train(uri, key, scratch))


def _train(uri: str, key: str, scratch: Path) -> None:
    check_gpus(given_gpus())
    jobs = read_jobs(uri, key, scratch / "results")
    progress = TrainingProgress(uri)
    unfinished = [job for job in jobs if not progress.has_result(job.folder)]
    os.environ["TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"] = "[rank${rank}]: "
    count = int(os.environ["PET_NPROC_PER_NODE"])
    for job in unfinished:
        if job.round and job.start:
            progress.fetch_result(job.start)
    if unfinished:
        run_processes(unfinished, ["--tee=3"], count, scratch, uri, pass_on, _echo)


def _echo(line: str) -> None:
    print(line, end="", flush=True)


if __name__ == "__main__":
    protect_process()
    wait_through_outages()
    main(sys.argv[1], sys.argv[2])
