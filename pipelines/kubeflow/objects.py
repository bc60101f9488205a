"""What runs and schedules stand on in Kubeflow Pipelines, found or made: the pipeline's version, an experiment."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp_server_api import (
    V2beta1Experiment,
    V2beta1Pipeline,
    V2beta1PipelineVersion,
    V2beta1PipelineVersionReference,
)

from gradsift.components.shared.errors import InputError, numbered
from gradsift.pipelines.kubeflow.client import Kubeflow, KubeflowConflictError
from gradsift.pipelines.pipeline import gradsift_pipeline
from gradsift.pipelines.text_channels import non_text_channels

MAX_NAME = 255
"""Number of characters that Kubeflow keeps of a name; it answers to a longer one as if it were down."""
CHOICES_RELEASE = (2, 16)
"""First release of Kubeflow Pipelines that takes the choices of a form's field; older ones refuse the pipeline."""


@dataclass(frozen=True)
class CompiledPipeline:
    """The pipeline as it is uploaded."""

    yaml: str

    @cached_property
    def documents(self) -> list[dict[str, Any]]:
        """The pipeline's specification, then that of its platform."""
        return list(yaml.safe_load_all(self.yaml))

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.documents[0]["pipelineInfo"]["name"])

    @cached_property
    def version(self) -> str:
        """Name of the version: gradsift's, and a hash of the content, less comments and the release of `kfp`."""
        first, *rest = self.documents
        content = [{key: value for key, value in first.items() if key != "sdkVersion"}, *rest]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{version('gradsift')}-{digest[:8]}"

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters that have a default, with it."""
        parameters = self.documents[0]["root"]["inputDefinitions"]["parameters"]
        return {name: each["defaultValue"] for name, each in parameters.items() if "defaultValue" in each}

    @property
    def tasks(self) -> set[str]:
        """Names of the tasks that run in a pod."""
        specification = self.documents[0]
        components = specification["components"]
        graphs = [specification["root"], *components.values()]
        return {
            name
            for graph in graphs
            for name, task in graph.get("dag", {}).get("tasks", {}).items()
            if "executorLabel" in components[task["componentRef"]["name"]]
        }


def compile_pipeline(release: str = "2.17") -> CompiledPipeline:
    """Compile the pipeline.

    Args:
        release: release of the server that is to take it. Where it is older than 2.16 or says nothing, fields of
            the form have no choices, which every server takes.

    Raises:
        InputError: Kubeflow's driver would drop a resource, as its amount is not a text.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(gradsift_pipeline, str(path))
        compiled = CompiledPipeline(path.read_text())
    if not _takes_choices(release):
        compiled = _without_choices(compiled)
    if problems := non_text_channels(compiled.documents):
        raise InputError(numbered(problems))
    return compiled


def _takes_choices(release: str) -> bool:
    numbers = re.match(r"v?([0-9]{1,9})\.([0-9]{1,9})", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= CHOICES_RELEASE


def _without_choices(pipeline: CompiledPipeline) -> CompiledPipeline:
    for each in pipeline.documents[0]["root"]["inputDefinitions"]["parameters"].values():
        each.pop("literals", None)
    return CompiledPipeline(yaml.safe_dump_all(pipeline.documents))


def ensure_version(kubeflow: Kubeflow, pipeline: CompiledPipeline) -> V2beta1PipelineVersionReference:
    """Return the version that holds this pipeline; the pipeline is made and uploaded if it is not there yet."""
    body = V2beta1Pipeline(
        name=pipeline.name,
        display_name=pipeline.name,
        description=pipeline.documents[0]["pipelineInfo"].get("description"),
        namespace=kubeflow.namespace or None,
    )
    create = kubeflow.client.pipelines.pipeline_service_create_pipeline
    pipeline_id = _ensure(
        lambda: _pipeline(kubeflow, pipeline), lambda: kubeflow.call(create, body)
    ).pipeline_id
    return _ensure(
        lambda: _version(kubeflow, pipeline_id, pipeline.version),
        lambda: _reference(_upload(kubeflow, pipeline_id, pipeline)),
    )


def ensure_experiment(kubeflow: Kubeflow, name: str) -> str:
    """Return an experiment's id; it is made if there is none of that name."""
    requests = kubeflow.client.experiments
    namespace = kubeflow.namespace or None
    listing = requests.experiment_service_list_experiments
    body = V2beta1Experiment(display_name=name, namespace=namespace)
    found = _ensure(
        lambda: kubeflow.named(listing, "experiments", name, namespace=namespace),
        lambda: kubeflow.call(requests.experiment_service_create_experiment, body),
    )
    return str(found.experiment_id)


def _ensure(find: Callable[[], Any], make: Callable[[], Any]) -> Any:
    """Return what is found, else what is made, else what somebody else made in between."""
    if (found := find()) is not None:
        return found
    try:
        return make()
    except KubeflowConflictError:
        if (found := find()) is not None:
            return found
        raise


def _pipeline(kubeflow: Kubeflow, pipeline: CompiledPipeline) -> V2beta1Pipeline | None:
    listing = kubeflow.client.pipelines.pipeline_service_list_pipelines
    return kubeflow.named(listing, "pipelines", pipeline.name, namespace=kubeflow.namespace or None)


def _version(kubeflow: Kubeflow, pipeline_id: str, name: str) -> V2beta1PipelineVersionReference | None:
    listing = kubeflow.client.pipelines.pipeline_service_list_pipeline_versions
    found = kubeflow.named(listing, "pipeline_versions", name, pipeline_id=pipeline_id)
    return found and _reference(found)


def _upload(kubeflow: Kubeflow, pipeline_id: str, pipeline: CompiledPipeline) -> V2beta1PipelineVersion:
    upload = kubeflow.client.pipeline_uploads.upload_pipeline_version
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(pipeline.yaml)
        return kubeflow.call(upload, str(path), name=pipeline.version, pipelineid=pipeline_id)


def _reference(version: V2beta1PipelineVersion) -> V2beta1PipelineVersionReference:
    return V2beta1PipelineVersionReference(
        pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
    )
