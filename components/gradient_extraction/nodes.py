"""Extracts gradients on several nodes of a TrainJob, one part of the store on each; also what every node runs."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from gradsift.components.gradient_extraction.shards.parts import Part
from gradsift.components.gradient_extraction.step import STEP, extract_part
from gradsift.components.shared.artifacts.run_outputs import read_outputs
from gradsift.components.shared.artifacts.step_output import digest_of, work_folder, work_uri
from gradsift.components.shared.kubeflow_trainer.node import RANK, pass_on, run_node
from gradsift.components.shared.kubeflow_trainer.train_job_launch import run_on_nodes
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.process.outages import wait_through_outages
from gradsift.components.shared.process.protection import protect_process
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.storage import delete_below, open_storage
from gradsift.components.shared.tracking.tracking import StepTracker

NODE = "gradsift.components.gradient_extraction.nodes"
REQUEST = "request.json"


def extract_on_nodes(
    config: GradientExtractionConfig,
    inputs: str,
    root_uri: str,
    tracker: StepTracker,
    node_resources: Mapping[str, Any],
) -> None:
    """Write all parts of the shards, each on a node of its own; `seal_store` makes them one store.

    Args:
        config: how gradients are projected and stored; `pods` is the number of nodes.
        inputs: key of the run's outputs, among them `data` and `meta_model`.
        root_uri: the run root, on S3.
        tracker: gets the progress of the first node.
        node_resources: what each node gets: `cpu`, `memory`, and GPUs by their resource name.

    Raises:
        GradsiftError: a node failed, for this reason.
        KubernetesError: the cluster refused a request, or stayed out of reach.
    """
    request = {"config": config.changes(), "inputs": inputs, "root_uri": root_uri}
    name = f"{STEP}-{digest_of(request)[:16]}"
    uri = work_uri(root_uri, name)
    open_storage(uri).write(REQUEST, json.dumps(request).encode())
    run_on_nodes(
        ["python", "-P", "-m", NODE, uri],
        config.pods,
        1,
        node_resources,
        uri,
        work_folder(root_uri, name),
        tracker,
    )
    delete_below(open_storage(join_uri(root_uri, "work")), name)


class NodeProgress:
    """Gives the launcher a node's progress."""

    def __init__(self, part: Part) -> None:
        self._unit = f"rows of part {part}"

    def progress(self, done: int, total: int, unit: str) -> None:
        """Pass on that `done` of the part's `total` units are done."""
        pass_on({"done": done, "total": total, "unit": self._unit})


def main(uri: str) -> None:
    """Write one node's part of the shards.

    Args:
        uri: where the request lies.
    """
    run_node(uri, lambda _: _extract(uri))


def _extract(uri: str) -> None:
    request = json.loads(open_storage(uri).read(REQUEST))
    config, root = GradientExtractionConfig(**request["config"]), request["root_uri"]
    outputs = read_outputs(request["inputs"], root)
    part = Part(int(os.environ[RANK]), config.pods)
    extract_part(config, outputs["data"], outputs["meta_model"], part, root, NodeProgress(part))


if __name__ == "__main__":
    protect_process()
    wait_through_outages()
    main(sys.argv[1])
