"""What a TrainJob of Kubeflow Trainer v2 looks like that trains on several nodes: a pure function."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradsift.components.shared.artifacts.step_output import digest_of
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.process.pod_environment import GPUS, MOUNTS

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
RUNTIME = "TrainingRuntime/gradsift-torch"
"""Kind and name of the runtime of the Helm chart: torch policy, security, account, `/tmp`, model cache."""
RUNTIME_VARIABLE = "GRADSIFT_TRAINING_RUNTIME"
"""Environment variable with kind and name of the runtime, from the Helm chart's ConfigMap."""
RUNTIME_KINDS = ("TrainingRuntime", "ClusterTrainingRuntime")
CONTAINER = "node"
"""Name of the nodes' container and of their job, as the runtime has it."""
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
MANAGER = "gradsift.io/launcher"
DIGEST = "gradsift.io/digest"
RUN = "pipeline/runid"
"""Label of the pipeline run, the same as KFP's on the pods of its steps."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "gradsift"}
QUEUE = "kueue.x-k8s.io/queue-name"
GRACE_SECONDS = 60
"""Seconds that a node has for a last checkpoint after it gets SIGTERM."""
SHARED_MEMORY_PER_GPU = 8
"""GiB of `/dev/shm`, counted against the memory of a node as far as it is used."""


def train_job_name(run: str, step: str) -> str:
    """Return the name of a step's TrainJob, the same for every try of the step."""
    readable = re.sub(r"[^a-z0-9]+", "-", step.lower()).strip("-")[:26]
    return f"gradsift-{readable}-{digest_of([run, step])[:10]}"


def gpu_count(resources: Mapping[str, Any]) -> int:
    """Return the number of GPUs in the resources of a node."""
    return sum(int(count) for count in _gpus(resources).values())


def train_job_payload(
    run: str,
    step: str,
    pod: Mapping[str, Any],
    runtime: str,
    nodes: int,
    processes: int,
    resources: Mapping[str, Any],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return the TrainJob that a step's own pod would be, were it one of several nodes.

    Image, credentials and settings (mounted Secrets and ConfigMaps, and environment variables from such), node
    selector, tolerations and queue are those of the step's pod; no value of a Secret appears.

    Args:
        run: id of the pipeline run.
        step: name of the step in it.
        pod: the step's pod, which owns the TrainJob.
        runtime: kind and name of the training runtime, such as `TrainingRuntime/gradsift-torch`.
        nodes: number of nodes.
        processes: number of training processes a node.
        resources: what a node requests: `cpu`, `memory`, and GPUs by their resource name.
        command: what every node runs.

    Returns:
        The TrainJob as JSON values, with a digest of everything but its owner as an annotation.

    Raises:
        InputError: the runtime has another form.
    """
    container = _main_container(pod)
    requests = {name: str(resources[name]) for name in ("cpu", "memory") if name in resources}
    limits = {"memory": requests["memory"]} if "memory" in requests else {}
    node = {
        "image": container["image"],
        "command": list(command),
        "env": [
            *(variable for variable in container.get("env", []) if _is_by_key(variable)),
            {"name": GPUS, "value": str(gpu_count(resources))},
        ],
        "numNodes": nodes,
        "numProcPerNode": processes,
        "resourcesPerNode": {"requests": requests, "limits": {**limits, **_gpus(resources)}},
    }
    queue = pod["metadata"].get("labels", {}).get(QUEUE)
    payload: dict[str, Any] = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": train_job_name(run, step),
            "labels": {**MANAGED_BY, RUN: run, **({QUEUE: queue} if queue else {})},
        },
        "spec": {
            "runtimeRef": _runtime_reference(runtime),
            "trainer": node,
            "runtimePatches": [_patch(pod, max(1, gpu_count(resources)) * SHARED_MEMORY_PER_GPU)],
        },
    }
    payload["metadata"]["annotations"] = {DIGEST: digest_of(payload)}
    payload["metadata"]["ownerReferences"] = [owner_reference(pod)]
    return payload


def owner_reference(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reference by which a TrainJob is deleted when the step's pod is."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }


def every_node(name: str) -> str:
    """Return the label selector of a TrainJob's pods."""
    return f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={CONTAINER}"


def first_node(name: str) -> str:
    """Return the label selector of the pod of a TrainJob's first node."""
    return f"{every_node(name)},{COMPLETION_INDEX}=0"


def creation_time(pod: Mapping[str, Any]) -> str:
    """Return when a pod was made, in a form that sorts."""
    return str(pod["metadata"]["creationTimestamp"])


def rank_of(pod: Mapping[str, Any]) -> int:
    """Return the number of the node that a TrainJob's pod is."""
    return int(pod["metadata"]["labels"][COMPLETION_INDEX])


def _runtime_reference(runtime: str) -> dict[str, str]:
    kind, _, name = runtime.partition("/")
    if kind not in RUNTIME_KINDS or not name:
        raise InputError(
            f"{RUNTIME_VARIABLE} is {runtime!r}: expected TrainingRuntime/NAME or ClusterTrainingRuntime/NAME."
        )
    return {"apiGroup": GROUP, "kind": kind, "name": name}


def _patch(pod: Mapping[str, Any], shared_memory: int) -> dict[str, Any]:
    """Return what is added to the pods of the runtime."""
    mounts = [
        each
        for each in _main_container(pod).get("volumeMounts", [])
        if each["mountPath"].startswith(f"{MOUNTS}/")
    ]
    mounted = {each["name"] for each in mounts}
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "volumes": [
            {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shared_memory}Gi"}},
            *(each for each in pod["spec"].get("volumes", []) if each["name"] in mounted),
        ],
    }
    if mounts:
        spec["containers"] = [{"name": CONTAINER, "volumeMounts": mounts}]
    for field in ("nodeSelector", "tolerations", "imagePullSecrets"):
        if pod["spec"].get(field):
            spec[field] = pod["spec"][field]
    template = {"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}, "spec": spec}
    job = {"name": CONTAINER, "template": {"spec": {"template": template}}}
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}


def _main_container(pod: Mapping[str, Any]) -> dict[str, Any]:
    containers: list[dict[str, Any]] = pod["spec"]["containers"]
    return next((each for each in containers if each["name"] == "main"), containers[0])


def _is_by_key(variable: Mapping[str, Any]) -> bool:
    return bool({"secretKeyRef", "configMapKeyRef"} & variable.get("valueFrom", {}).keys())


def _gpus(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return whatever of the resources is neither CPU nor memory, as Kubernetes writes it."""
    others = resources.keys() - {"cpu", "memory"}
    return {name: str(int(resources[name])) for name in sorted(others) if int(resources[name])}
