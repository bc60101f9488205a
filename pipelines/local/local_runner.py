"""Runs the pipeline on this machine with KFP's local runner, in a process of its own."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.process.lifeline import hold_lifeline, lifeline
from gradsift.components.shared.process.protection import SAFE_PATH, protect_process
from gradsift.components.shared.storage.local import atomic_file, open_to_append

REQUEST = "request.json"


def start(folder: Path, run_id: str, parameters: dict[str, Any], log: Path) -> "subprocess.Popen[bytes]":
    """Start the pipeline in the background; it stops when this process does, which sends MLflow what steps record.

    Args:
        folder: where KFP keeps what it passes from step to step.
        run_id: id of the run, the steps' `KFP_RUN_ID`.
        parameters: the pipeline's arguments.
        log: file for everything that KFP and the steps print.
    """
    with atomic_file(folder / REQUEST) as path:
        path.write_text(json.dumps(parameters))
    environment = {
        "TOKENIZERS_PARALLELISM": "false",
        **os.environ,
        "KFP_RUN_ID": run_id,
        "PYTHONUNBUFFERED": "1",
        "GRADSIFT_MLFLOW": "off",
        **lifeline(),
        **SAFE_PATH,
    }
    command = [sys.executable, "-P", "-m", "gradsift.pipelines.local.local_runner", str(folder)]
    with open_to_append(log) as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        )


def lock(folder: Path) -> BinaryIO:
    """Take the folder for this process alone, until the returned file is closed.

    Raises:
        InputError: another run works in it.
        StorageError: it is no folder that can be written to.
    """
    file = open_to_append(folder / "lock")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(f"Another run works in {folder}: wait for it, or give another --output.") from error
    return file


def main(folder: Path) -> None:
    """Run the pipeline with the arguments that `start` wrote."""
    from kfp import local

    from gradsift.components.shared.parameters.pipeline_settings import form_of
    from gradsift.pipelines.pipeline import gradsift_pipeline

    protect_process()
    hold_lifeline()
    parameters = json.loads((folder / REQUEST).read_text())
    spec = gradsift_pipeline.pipeline_spec
    for part in (spec.root, *spec.components.values()):
        for task in part.dag.tasks.values():
            task.ClearField("retry_policy")
            if task.HasField("parameter_iterator"):
                task.iterator_policy.parallelism_limit = 1  # they would fight for the same cores
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder))
    gradsift_pipeline(**form_of(parameters))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
