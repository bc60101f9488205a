"""Add to a pod's patch what kfp-kubernetes wrote for the task, as KFP 2.17's driver does (k8s.go).

Names come from parameters or constants; a Secret or ConfigMap that is named by an optional parameter without a
value is left out.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from doubles.kfp_error import DriverError
from doubles.kfp_inputs import NullError

Spec = Mapping[str, Any]
Pod = dict[str, Any]
Resolve = Callable[[Spec], Any]

KNOWN = {
    "activeDeadlineSeconds",
    "configMapAsEnv",
    "configMapAsVolume",
    "emptyDirMounts",
    "fieldPathAsEnv",
    "imagePullPolicy",
    "imagePullSecret",
    "nodeSelector",
    "podMetadata",
    "pvcMount",
    "secretAsEnv",
    "secretAsVolume",
    "tolerations",
}


def extend_patch(patch: Pod, kubernetes: Spec, resolve: Resolve, where: str) -> None:
    """Add to a pod's patch what kfp-kubernetes wrote for the task.

    Args:
        patch: the patch, with its container; changed in place.
        kubernetes: what kfp-kubernetes wrote for the task's executor.
        resolve: returns the value of a parameter of the graph around the task, or a constant.
        where: the task's place in the run, for errors.

    Raises:
        DriverError: the driver would fail, or a field is not part of the double.
    """
    if unknown := sorted(kubernetes.keys() - KNOWN):
        raise DriverError(f"Task `{where}`: not part of the double: {', '.join(unknown)}.")
    container = patch["containers"][0]
    container["env"] += _environment(kubernetes, resolve, where)
    volumes = _volumes(kubernetes, resolve, where)
    patch["volumes"] = [volume for volume, _ in volumes]
    container["volumeMounts"] = [mount for _, mount in volumes]
    if policy := kubernetes.get("imagePullPolicy"):
        container["imagePullPolicy"] = policy
    if secrets := kubernetes.get("imagePullSecret"):
        names = [_name(each, "secretName", resolve, where) for each in secrets]
        patch["imagePullSecrets"] = [{"name": name} for name in names if name]
    if selector := _node_selector(kubernetes.get("nodeSelector", {}), resolve):
        patch["nodeSelector"] = selector
    if tolerations := _tolerations(kubernetes.get("tolerations", []), resolve, where):
        patch["tolerations"] = tolerations
    if seconds := int(kubernetes.get("activeDeadlineSeconds", 0)):
        patch["activeDeadlineSeconds"] = seconds


def _environment(kubernetes: Spec, resolve: Resolve, where: str) -> list[Pod]:
    variables = []
    for group, name_of, key_of, reference in (
        ("secretAsEnv", "secretName", "secretKey", "secretKeyRef"),
        ("configMapAsEnv", "configMapName", "configMapKey", "configMapKeyRef"),
    ):
        for each in kubernetes.get(group, []):
            name = _name(each, name_of, resolve, where)
            optional = {"optional": each["optional"]} if "optional" in each else {}
            for key in each["keyToEnv"] if name else []:
                selected = {"name": name, "key": key[key_of], **optional}
                variables.append({"name": key["envVar"], "valueFrom": {reference: selected}})
    for each in kubernetes.get("fieldPathAsEnv", []):
        source = {"fieldRef": {"fieldPath": each["fieldPath"]}}
        variables.append({"name": each["name"], "valueFrom": source})
    return variables


def _volumes(kubernetes: Spec, resolve: Resolve, where: str) -> list[tuple[Pod, Pod]]:
    """Return each volume with its mount."""
    volumes = []
    for each in kubernetes.get("pvcMount", []):
        name = _text_parameter(each["pvcNameParameter"], resolve, where)
        volumes.append((name, {"persistentVolumeClaim": {"claimName": name}}, each))
    for group, name_of, kind, key in (
        ("secretAsVolume", "secretName", "secret", "secretName"),
        ("configMapAsVolume", "configMapName", "configMap", "name"),
    ):
        for each in kubernetes.get(group, []):
            if found := _name(each, name_of, resolve, where):
                volumes.append((found, {kind: {key: found, "optional": each.get("optional", False)}}, each))
    for each in kubernetes.get("emptyDirMounts", []):
        empty = {key: each[key] for key in ("medium", "sizeLimit") if key in each}
        volumes.append((each["volumeName"], {"emptyDir": empty}, each))
    return [
        (
            {"name": name, **source},
            {"name": name, "mountPath": each["mountPath"]}
            | ({"subPath": each["subPath"]} if each.get("subPath") else {}),
        )
        for name, source, each in volumes
    ]


def _name(each: Spec, field: str, resolve: Resolve, where: str) -> str | None:
    """Return the name of a Secret or ConfigMap; None where it is an optional parameter that was not given."""
    parameter = f"{field}Parameter"
    if parameter not in each:
        return str(each[field])
    try:
        return _text_parameter(each[parameter], resolve, where)
    except NullError:
        return None


def _text_parameter(source: Spec, resolve: Resolve, where: str) -> str:
    value = resolve(source)
    if not isinstance(value, str) or not value:
        expected = "a text that is not empty is expected"
        raise DriverError(f"Task `{where}`, {json.dumps(source)}: {expected}, not {value!r}.")
    return value


def _node_selector(given: Spec, resolve: Resolve) -> dict[str, str]:
    """Return a node selector; of a parameter that is no mapping, nothing is left."""
    if "nodeSelectorJson" not in given:
        return dict(given.get("labels", {}))
    try:
        value = resolve(given["nodeSelectorJson"])
    except NullError:
        return {}
    return dict(value) if isinstance(value, dict) else {}


def _tolerations(given: list[Spec], resolve: Resolve, where: str) -> list[Spec]:
    """Return a pod's tolerations: a parameter is one of them or a list."""
    tolerations: list[Spec] = []
    for each in given:
        try:
            value = resolve(each["tolerationJson"]) if "tolerationJson" in each else each
        except NullError:
            continue
        if not isinstance(value, dict | list):
            raise DriverError(f"Task `{where}`: a toleration is a mapping or a list, not {value!r}.")
        tolerations += value if isinstance(value, list) else [value] if value else []
    return tolerations
