"""Where a step's training runs: in processes of its own machine, or as a TrainJob over several nodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradsift.components.shared.kubeflow_trainer.train_job_launch import run_train_job
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.training import Launcher


def launcher_on(node_resources: Mapping[str, Any]) -> Launcher:
    """Return what launches a step's jobs: here where their recipe has one node, else as a TrainJob.

    Args:
        node_resources: what each node of a TrainJob gets: `cpu`, `memory`, and GPUs by their resource name.
    """

    def launch(jobs: Sequence[TrainingJob], uri: str | None, scratch: Path, tracker: StepTracker) -> None:
        if jobs[0].recipe.nodes == 1:
            launch_processes(jobs, uri, scratch, tracker)
        else:
            run_train_job(jobs, uri, scratch, tracker, node_resources)

    return launch
