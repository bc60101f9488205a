"""Estimate how large the Argo workflow object of a run becomes.

Argo keeps the specification and the state of every node in one object. Past 1 MiB it compresses the state, and the
KFP API sees the tasks no more; where the object passes 1 MiB even so, Argo fails the run. The object is built here
as KFP's compiler (backend/src/v2/compiler/argocompiler) and Argo build it, less what is small or the same for all
pipelines.
"""

import gzip
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from doubles.kfp_inputs import RUN_NAME, whole
from doubles.kfp_pod import PodTask

from gradsift.pipelines.text_channels import kubernetes_executors

Spec = Mapping[str, Any]
Node = dict[str, Any]

SYSTEM_TEMPLATES_BYTES = 12_000
"""The drivers' and the launcher's templates, with and without retries: the same in all pipelines."""


@dataclass(frozen=True)
class WorkflowBytes:
    """Sizes in bytes of the parts of a workflow object, as JSON.

    Attributes:
        spec: components, implementations and Kubernetes settings as arguments, and the templates of the graphs.
        status: the states of all nodes.
        compressed: the same as Argo stores it when the object passes 1 MiB.
        patches: the part of the status that is copies of pod patches.
    """

    spec: int
    status: int
    compressed: int
    patches: int


def workflow_bytes(documents: Sequence[Spec], pods: Sequence[PodTask]) -> WorkflowBytes:
    """Estimate the size of a run's workflow object when the run has ended.

    A task that runs in a pod has six nodes (driver, wrapper and executor, each with its retry), and each of them
    holds the pod's patch. The driver's two nodes hold the specifications of the component, the task, the container
    and its Kubernetes settings, too; those of a graph hold the graph's. Conditions that are false and empty loops
    are left out.

    How near it comes: for the pipeline of be3a81d (274 KB of YAML) a cluster had 347 KB of specification, and after
    a full run with four calibration groups, promotion and a few extraction pods 2.2 MB of status, 1.2 MB of it
    patches. This function gives 337 KB, and for one to three extraction pods 2.1 to 2.3 MB and 1.2 to 1.3 MB. With
    60 extraction pods, where specification and compressed status passed 1 MiB, it gives 0.85 MiB for them.

    Args:
        documents: the compiled pipeline: its specification, then that of its platform.
        pods: the run's pods, by `resolve`.
    """
    status = _json(
        {node["id"]: node for node in sorted(_nodes(documents, pods), key=lambda node: node["id"])}
    )
    return WorkflowBytes(
        spec=len(_json(_specification(documents))) + SYSTEM_TEMPLATES_BYTES,
        status=len(status),
        compressed=len(b64encode(gzip.compress(status.encode()))),
        patches=6 * sum(len(json.dumps(_json(pod.patch))) for pod in pods),
    )


def _json(value: Any) -> str:
    """Return JSON as Go writes it: short, and with three characters of HTML escaped."""
    text = json.dumps(whole(value), separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _specification(documents: Sequence[Spec]) -> Node:
    spec = documents[0]
    kubernetes = kubernetes_executors(documents)
    components = {"root": spec["root"], **spec["components"]}
    arguments: Node = {}
    templates: list[Node] = []
    for name, component in components.items():
        arguments[f"components-{name}"] = component
        if label := component.get("executorLabel"):
            arguments[f"implementations-{name}"] = spec["deploymentSpec"]["executors"][label]["container"]
            if label in kubernetes:
                arguments[f"kubernetes-{name}"] = kubernetes[label]
        else:
            templates += _templates(name, component)
    return {"arguments": _parameters(arguments), "templates": templates}


def _templates(name: str, component: Spec) -> Iterator[Node]:
    """Yield a graph's template, and two for each loop in it."""
    tasks = []
    for task_name, task in component["dag"]["tasks"].items():
        if "parameterIterator" in task:
            for level in (1, 2):
                driver = _driver_task(f"iteration-driver-{level}", task, task_name)
                yield {
                    "name": f"{name}-{task_name}-{level}",
                    "dag": {"tasks": [driver, _graph_task(task_name)]},
                }
            tasks.append(_graph_task(task_name))
        else:
            tasks += [_driver_task(f"{task_name}-driver", task, task_name), _graph_task(task_name)]
    yield {"name": name, "inputs": _parameters({"parent-dag-id": ""}), "dag": {"tasks": tasks}}


def _driver_task(name: str, task: Spec, task_name: str) -> Node:
    component = task["componentRef"]["name"]
    return {
        "name": name,
        "template": "system-container-driver",
        "arguments": _parameters(
            {
                "component": f"{{{{workflow.parameters.components-{component}}}}}",
                "task": task,
                "container": f"{{{{workflow.parameters.implementations-{component}}}}}",
                "task-name": task_name,
                "parent-dag-id": "{{inputs.parameters.parent-dag-id}}",
                "kubernetes-config": f"{{{{workflow.parameters.kubernetes-{component}}}}}",
            }
        ),
        "depends": " && ".join(f"{each}.Succeeded" for each in task.get("dependentTasks", [])),
    }


def _graph_task(name: str) -> Node:
    return {
        "name": name,
        "template": "retry-system-container-executor",
        "arguments": _parameters(
            {
                "pod-spec-patch": f"{{{{tasks.{name}-driver.outputs.parameters.pod-spec-patch}}}}",
                "cached-decision": f"{{{{tasks.{name}-driver.outputs.parameters.cached-decision}}}}",
            }
        ),
        "depends": f"{name}-driver.Succeeded",
    }


def _nodes(documents: Sequence[Spec], pods: Sequence[PodTask]) -> Iterator[Node]:
    """Yield the states of all nodes: of the root, of every graph and iteration, and of every pod."""
    spec = documents[0]
    yield from _tried((), "", {})
    definitions = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: each.get("defaultValue") for name, each in definitions.items()}
    yield from _tried((), ".root-driver", {"component": spec["root"], "runtime-config": defaults})
    yield from _tried((), ".root", {"parent-dag-id": "1"})
    graphs = {pod.path[:end] for pod in pods for end in range(1, len(pod.path))}
    for path in sorted(graphs):
        yield from _graph_nodes(path, spec)
    for pod in pods:
        yield from _pod_nodes(pod, documents)


def _graph_nodes(path: tuple[str, ...], spec: Spec) -> Iterator[Node]:
    task, component = _task(path, spec)
    given = {"component": component, "task": task, "task-name": path[-1], "parent-dag-id": "12"}
    returned = {"execution-id": "12", "iteration-count": "0", "condition": "true"}
    yield from _tried(path, "-driver", given, returned)
    yield from _tried(path, "", {"parent-dag-id": "12"})


def _pod_nodes(pod: PodTask, documents: Sequence[Spec]) -> Iterator[Node]:
    task, component = _task(pod.path, documents[0])
    label = component["executorLabel"]
    patch = {"pod-spec-patch": pod.patch}
    retries = {"retry-max-count": "2", "retry-backoff-duration": "30", "retry-backoff-factor": "2"}
    given = {
        "component": component,
        "task": task,
        "container": documents[0]["deploymentSpec"]["executors"][label]["container"],
        "task-name": pod.name,
        "parent-dag-id": "12",
        "kubernetes-config": kubernetes_executors(documents).get(label, {}),
    }
    yield from _tried(pod.path, "-driver", given, {**patch, "cached-decision": "false", "condition": "true"})
    yield from _tried(pod.path, "", {**patch, "cached-decision": "false", **retries})
    yield from _tried(pod.path, "(0).executor", {**patch, **retries})


def _task(path: tuple[str, ...], spec: Spec) -> tuple[Spec, Spec]:
    """Return the specifications of the task at a place of the run and of its component."""
    component = spec["root"]
    task: Spec = {}
    for name in path:
        if not name.isdigit():
            task = component["dag"]["tasks"][name]
            component = spec["components"][task["componentRef"]["name"]]
    return task, component


def _tried(
    path: tuple[str, ...], suffix: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any] | None = None
) -> Iterator[Node]:
    """Yield a node and its first try, which hold the same."""
    parts = [f"iteration-iterations({each}:{each})(0)" if each.isdigit() else each for each in path]
    name = "(0).".join([RUN_NAME, "root", *parts]) + suffix
    for each in (name, f"{name}(0)"):
        yield {
            "id": f"{RUN_NAME}-{crc32(each.encode()):010}",
            "name": each,
            "displayName": each.rpartition(".")[2],
            "type": "Retry",
            "templateName": "retry-system-container-executor",
            "templateScope": f"local/{RUN_NAME}",
            "phase": "Succeeded",
            "boundaryID": f"{RUN_NAME}-0123456789",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:00Z",
            "progress": "1/1",
            "resourcesDuration": {"cpu": 10, "memory": 100},
            "inputs": _parameters(inputs),
            "outputs": _parameters(outputs or {}),
            "children": [f"{RUN_NAME}-0123456789"],
            "outboundNodes": [f"{RUN_NAME}-0123456789"],
        }


def _parameters(values: Mapping[str, Any]) -> Node:
    """Return parameters as Argo holds them: texts, JSON in what is none."""
    return {
        "parameters": [
            {"name": name, "value": value if isinstance(value, str) else _json(value)}
            for name, value in values.items()
        ]
    }
