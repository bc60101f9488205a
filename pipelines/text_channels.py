"""Find channels that reach a field of a pod which KFP's driver reads as a text, and are none.

KFP 2.17's driver reads the parameters behind resources, accelerators, images and names with `GetStringValue`: of a
number nothing is left. A number of accelerators is dropped without a word, and the other fields fail the task.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Spec = Mapping[str, Any]

CHANNEL = re.compile(r"\$\.inputs\.parameters\['(.+?)'\]")
"""A parameter in a text of a container, as the driver looks for it; kfp writes `{{$.inputs.parameters['x']}}`."""

PREFIX = "pipelinechannel--"
"""What kfp writes before the name of a channel that is an input of a task or a graph."""

RESOURCES = {
    "resourceCpuRequest": "CPU request",
    "resourceCpuLimit": "CPU limit",
    "resourceMemoryRequest": "memory request",
    "resourceMemoryLimit": "memory limit",
}
ACCELERATOR = {"resourceType": "accelerator type", "resourceCount": "accelerator limit"}
NAMES = {
    "secretAsEnv": ("secretNameParameter", "Secret's name"),
    "secretAsVolume": ("secretNameParameter", "Secret's name"),
    "imagePullSecret": ("secretNameParameter", "image pull Secret's name"),
    "configMapAsEnv": ("configMapNameParameter", "ConfigMap's name"),
    "configMapAsVolume": ("configMapNameParameter", "ConfigMap's name"),
    "pvcMount": ("pvcNameParameter", "volume claim's name"),
}


def non_text_channels(documents: Sequence[Spec]) -> list[str]:
    """List the places where KFP's driver expects a text and the pipeline gives it another type.

    The node selector, tolerations and node affinity are read as mappings and lists, so they are not looked at. Nor
    are the items of a loop's mappings, whose types no pipeline declares.

    Args:
        documents: the compiled pipeline: its specification, then that of its platform, if it has one.

    Returns:
        A sentence for each place, in the order of the tasks; none for a pipeline that is right.
    """
    spec = documents[0]
    executors = kubernetes_executors(documents)
    found = []
    for parent, name, task in _tasks(spec):
        component = spec["components"][task["componentRef"]["name"]]
        if "executorLabel" not in component:
            continue
        label = component["executorLabel"]
        container = spec["deploymentSpec"]["executors"][label].get("container", {})
        for field, channel in _channels_of_container(container):
            source = task.get("inputs", {}).get("parameters", {}).get(channel, {})
            own = component.get("inputDefinitions", {}).get("parameters", {}).get(channel)
            kind = own["parameterType"] if own else _type(spec, parent, source)
            found.append((name, field, channel, kind))
        for field, source in _channels_of_platform(executors.get(label, {})):
            found.append((name, field, _name(source), _type(spec, parent, source)))
    return [
        f"Task `{name}`: the {field} comes from `{channel.removeprefix(PREFIX)}`, a {kind}, "
        "and KFP's driver reads a STRING only."
        for name, field, channel, kind in found
        if kind not in ("STRING", None)
    ]


def kubernetes_executors(documents: Sequence[Spec]) -> Spec:
    """Return the Kubernetes settings of each executor, by the executor's label."""
    platform = documents[1] if len(documents) > 1 else {}
    kubernetes = platform.get("platforms", {}).get("kubernetes", {})
    executors: Spec = kubernetes.get("deploymentSpec", {}).get("executors", {})
    return executors


def _tasks(spec: Spec) -> Iterator[tuple[Spec, str, Spec]]:
    """Yield every task of every graph, with the component whose graph it stands in."""
    for component in [spec["root"], *spec.get("components", {}).values()]:
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            yield component, name, task


def _channels_of_container(container: Spec) -> Iterator[tuple[str, str]]:
    resources = container.get("resources", {})
    texts = [(meaning, resources.get(field, "")) for field, meaning in RESOURCES.items()]
    accelerator = resources.get("accelerator", {})
    texts += [(meaning, accelerator.get(field, "")) for field, meaning in ACCELERATOR.items()]
    texts.append(("image", container.get("image", "")))
    for meaning, text in texts:
        if match := CHANNEL.search(text):
            yield meaning, match[1]


def _channels_of_platform(executor: Spec) -> Iterator[tuple[str, Spec]]:
    for field, (parameter, meaning) in NAMES.items():
        for each in executor.get(field, []):
            if parameter in each:
                yield meaning, each[parameter]


def _type(spec: Spec, parent: Spec, source: Spec) -> str | None:
    """Return the type that a task's input has by its declaration; None where nothing declares it."""
    if "parameterExpressionSelector" in source or "runtimeValue" in source:
        return None
    if "componentInputParameter" in source:
        declared = parent.get("inputDefinitions", {})
        name = source["componentInputParameter"]
    else:
        output = source["taskOutputParameter"]
        producer = parent["dag"]["tasks"][output["producerTask"]]
        declared = spec["components"][producer["componentRef"]["name"]]["outputDefinitions"]
        name = output["outputParameterKey"]
    return str(declared["parameters"][name]["parameterType"])


def _name(source: Spec) -> str:
    if "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        return f"{output['producerTask']}-{output['outputParameterKey']}"
    return str(source.get("componentInputParameter", ""))
