"""Build a task's pod patch as KFP 2.17's driver does (driver.go), and its metadata and retries.

The patch is what Argo merges into the pod: the image, the launcher with the user's program as its arguments,
resources, environment, volumes, placement and the time limit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from doubles.kfp_error import DriverError
from doubles.kfp_inputs import RUN_ID, Outputs, Scope, resolve_parameter, text_of, whole
from doubles.kfp_kubernetes import extend_patch

from gradsift.pipelines.text_channels import CHANNEL

Spec = Mapping[str, Any]
Pod = dict[str, Any]

QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$")
"""What Kubernetes says that a quantity must match."""

RESOURCES = (
    ("limits", "memory", "resourceMemoryLimit"),
    ("requests", "memory", "resourceMemoryRequest"),
    ("limits", "cpu", "resourceCpuLimit"),
    ("requests", "cpu", "resourceCpuRequest"),
)
DEFAULT_TRIES = 2
"""Retries of every template by the workflow controller's configuration in KFP 2.17.0."""


@dataclass(frozen=True)
class Retry:
    """How Argo tries a pod again.

    Attributes:
        limit: largest number of retries.
        policy: `OnError` in KFP 2.17.0, whatever the task says: a pod that is deleted or lost is tried again, a
            program that fails or runs out of memory is not.
        backoff_seconds: time before the first retry; None where the task says nothing.
        backoff_factor: growth of that time from one retry to the next.
        backoff_max_seconds: time from the first try after which none follows.
    """

    limit: int
    policy: str = "OnError"
    backoff_seconds: int | None = None
    backoff_factor: float | None = None
    backoff_max_seconds: int | None = None


@dataclass(frozen=True)
class PodTask:
    """A task that runs in a pod, once for each iteration of a loop.

    Attributes:
        name: the task's name in the compiled pipeline.
        path: names of the graphs around it and its own; in a loop the iteration's index follows the loop's name.
        executor_input: what the launcher is given: inputs, and where outputs go.
        patch: the pod's specification as the driver patches it.
        labels: labels of the pod that the task asks for.
        annotations: annotations that it asks for.
        retry: when the pod is tried again.
    """

    name: str
    path: tuple[str, ...]
    executor_input: Pod
    patch: Pod
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    retry: Retry

    @property
    def container(self) -> Pod:
        """The container that runs the task."""
        container: Pod = self.patch["containers"][0]
        return container

    @property
    def limits(self) -> dict[str, str]:
        """Limits of its resources, by name: `nvidia.com/gpu` is one."""
        return dict(self.container["resources"]["limits"])

    @property
    def requests(self) -> dict[str, str]:
        """Requests for resources, by name."""
        return dict(self.container["resources"]["requests"])

    @property
    def environment(self) -> dict[str, Spec]:
        """Environment variables, by name: `value`, or `valueFrom` a Secret, a ConfigMap or a field of the pod."""
        return {each["name"]: each for each in self.container["env"]}

    @property
    def inputs(self) -> dict[str, Any]:
        """Input parameters as the driver resolves them: a constant's channels are not filled in yet."""
        inputs: dict[str, Any] = self.executor_input["inputs"]["parameterValues"]
        return inputs


@dataclass(frozen=True)
class Options:
    """What the driver is started with for one task.

    Attributes:
        pipeline: the pipeline's name.
        path: the task's place in the run.
        task: the task's specification.
        component: its component's.
        executor: its executor's, of the pipeline's deployment.
        kubernetes: what kfp-kubernetes wrote for that executor.
        execution_id: the task's number in the run.
    """

    pipeline: str
    path: tuple[str, ...]
    task: Spec
    component: Spec
    executor: Spec
    kubernetes: Spec
    execution_id: int

    @property
    def where(self) -> str:
        """The task's place in the run, for errors."""
        return "/".join(self.path)


def pod_task(options: Options, inputs: Outputs, scope: Scope) -> PodTask:
    """Return a task's pod.

    Args:
        options: the task.
        inputs: its inputs.
        scope: what it sees.

    Raises:
        DriverError: the driver would fail, or the task has something that the double leaves out.
    """
    executor = options.executor
    if "container" not in executor or executor["container"]["image"].startswith("argostub/"):
        raise DriverError(f"Task `{options.where}`: importers and volume tasks are not part of the double.")
    executor_input = {
        "inputs": {
            "parameterValues": inputs.parameters,
            "artifacts": {name: {"artifacts": found} for name, found in inputs.artifacts.items()},
        },
        "outputs": _provisioned(options),
    }
    patch: Pod = {"containers": [_container(options, executor_input)]}
    extend_patch(
        patch,
        options.kubernetes,
        lambda source: resolve_parameter(source, scope, options.where, options.task),
        options.where,
    )
    metadata = options.kubernetes.get("podMetadata", {})
    return PodTask(
        name=options.path[-1],
        path=options.path,
        executor_input=executor_input,
        patch=patch,
        labels=metadata.get("labels", {}),
        annotations=metadata.get("annotations", {}),
        retry=_retry(options.task.get("retryPolicy")),
    )


def _container(options: Options, executor_input: Pod) -> Pod:
    given = options.executor["container"]
    values = executor_input["inputs"]["parameterValues"]
    launcher = {
        "pipeline_name": options.pipeline,
        "run_id": RUN_ID,
        "execution_id": str(options.execution_id),
        "executor_input": text_of(executor_input),
        "component_spec": text_of(whole(options.component)),
        "pod_name": "$(KFP_POD_NAME)",
        "pod_uid": "$(KFP_POD_UID)",
        "mlmd_server_address": "metadata-grpc-service.kubeflow.svc.cluster.local",
        "mlmd_server_port": "8080",
        "publish_logs": "true",
    }
    arguments = [text for name, value in launcher.items() for text in (f"--{name}", value)]
    return {
        "name": "main",
        "image": _text(given["image"], values, options.where),
        "command": ["/kfp-launcher/launch", *arguments, "--"],
        "args": [*given.get("command", []), *given.get("args", [])],
        "env": [dict(each) for each in given.get("env", [])],
        "resources": _resources(given.get("resources", {}), values, options.where),
    }


def _provisioned(options: Options) -> Pod:
    """Return where a task's outputs go: artifacts to the run's root, parameters to files in the pod."""
    definitions = options.component.get("outputDefinitions", {})
    own = f"{options.path[-1]}/{uuid5(NAMESPACE_URL, options.where)}"
    root = f"minio://mlpipeline/v2/artifacts/{options.pipeline}/{RUN_ID}/{own}"
    artifacts = {
        **definitions.get("artifacts", {}),
        "executor-logs": {"artifactType": {"schemaTitle": "system.Artifact"}},
    }
    return {
        "artifacts": {
            name: {"artifacts": [{"name": name, "type": each["artifactType"], "uri": f"{root}/{name}"}]}
            for name, each in artifacts.items()
        },
        "parameters": {
            name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in definitions.get("parameters", {})
        },
        "outputFile": f"{root.replace('minio://', '/minio/')}/output_metadata.json",
    }


def _text(text: str, values: Mapping[str, Any], where: str) -> str:
    """Return a text of the container with its channel filled in; of a value that is no text, nothing is left."""
    match = CHANNEL.search(text)
    if match is None:
        return text
    if match[1] not in values:
        raise DriverError(f"Task `{where}`: the executor input has no `{match[1]}`.")
    value = values[match[1]]
    return value if isinstance(value, str) else ""


def _resources(given: Spec, values: Mapping[str, Any], where: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {"limits": {}, "requests": {}}
    for kind, resource, name in RESOURCES:
        if name in given:
            found[kind][resource] = _quantity(_text(given[name], values, where), f"{where}, {name}")
    accelerator = given.get("accelerator", {})
    kind = _text(accelerator.get("resourceType", ""), values, where)
    count = _text(accelerator.get("resourceCount", ""), values, where)
    if kind and count:
        found["limits"][kind] = _quantity(count, f"{where}, resourceCount")
    return found


def _quantity(text: str, where: str) -> str:
    if not QUANTITY.match(text):
        raise DriverError(
            f"Task `{where}`: quantities must match '{QUANTITY.pattern}', which {text!r} does not."
        )
    return text


def _retry(policy: Spec | None) -> Retry:
    if policy is None:
        return Retry(limit=DEFAULT_TRIES)
    return Retry(
        limit=policy["maxRetryCount"],
        backoff_seconds=_seconds(policy.get("backoffDuration")),
        backoff_factor=policy.get("backoffFactor"),
        backoff_max_seconds=_seconds(policy.get("backoffMaxDuration")),
    )


def _seconds(duration: str | None) -> int | None:
    return None if duration is None else int(float(duration.removesuffix("s")))
