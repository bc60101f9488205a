"""Resolve a task's inputs as KFP 2.17's driver does (resolve.go), and check the values that enter a run."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from doubles.kfp_error import DriverError

Spec = Mapping[str, Any]

RUN_ID = "11111111-2222-3333-4444-555555555555"
RUN_NAME = "run-abcde"
PLACEHOLDERS = {
    "{{$.pipeline_job_name}}": "a run",
    "{{$.pipeline_job_resource_name}}": RUN_NAME,
    "{{$.pipeline_job_uuid}}": RUN_ID,
    "{{$.pipeline_task_uuid}}": "1",
    "{{$.pipeline_job_create_time_utc}}": "2026-01-01T00:00:00Z",
    "{{$.pipeline_job_schedule_time_utc}}": "2026-01-01T00:00:00Z",
}
KEY_OF_ITEM = re.compile(r"parseJson\(string_value\)\[\"(.+)\"\]")
TYPES: dict[str, type | tuple[type, ...]] = {
    "STRING": str,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
    "TASK_FINAL_STATUS": dict,
}


@dataclass(frozen=True)
class Outputs:
    """Parameters and artifacts, by name: what a task reads, or what it gives to others."""

    parameters: dict[str, Any]
    artifacts: dict[str, list[Spec]]


@dataclass
class Scope:
    """What the tasks of one graph see: the graph's inputs, and the tasks that have finished in it."""

    parameters: dict[str, Any]
    artifacts: dict[str, list[Spec]] = field(default_factory=dict)
    finished: dict[str, Outputs] = field(default_factory=dict)


class NullError(DriverError):
    """A parameter is an optional one without a value."""


def task_inputs(task: Spec, component: Spec, scope: Scope, where: str) -> Outputs:
    """Return a task's inputs, converted and checked by the component's definitions.

    Args:
        task: the task's specification.
        component: its component's.
        scope: what the task sees.
        where: the task's place in the run, for errors.

    Raises:
        DriverError: an input is missing, or has another type than the component takes.
    """
    definitions = component.get("inputDefinitions", {}).get("parameters", {})
    sources = task.get("inputs", {})
    parameters: dict[str, Any] = {}
    if "dag" in component:
        absent = definitions.keys() - sources.get("parameters", {}).keys()
        parameters = {
            name: whole(definitions[name].get("defaultValue"))
            for name in absent
            if definitions[name].get("isOptional")
        }
    for name, source in sources.get("parameters", {}).items():
        try:
            parameters[name] = resolve_parameter(source, scope, f"{where}, input `{name}`", task)
        except NullError:
            if not definitions.get(name, {}).get("isOptional"):
                raise
    artifacts = {
        name: _artifacts(source, scope, f"{where}, input `{name}`")
        for name, source in sources.get("artifacts", {}).items()
    }
    item = task.get("parameterIterator", {}).get("itemInput")
    return Outputs(_converted(parameters, definitions, item, where), artifacts)


def iteration_inputs(task: Spec, component: Spec, inputs: Outputs, item: Any, where: str) -> dict[str, Any]:
    """Return the input parameters of one iteration of a loop: the loop's and an item.

    Raises:
        DriverError: the item has another type than the loop's graph takes.
    """
    item_input = task["parameterIterator"]["itemInput"]
    definitions = component["inputDefinitions"]["parameters"]
    return _converted({**inputs.parameters, item_input: item}, definitions, None, where)


def resolve_parameter(source: Spec, scope: Scope, where: str, task: Spec) -> Any:
    """Return the value of a task's input, or of a field that kfp-kubernetes writes.

    Constants stay as they are: the driver fills in a placeholder of a run (`{{$.pipeline_job_uuid}}`), and no
    channel. The launcher fills channels into texts later; in a mapping they stay.

    Raises:
        NullError: the value is an optional parameter's that was not given.
        DriverError: there is no such value.
    """
    if "runtimeValue" in source:
        return _constant(source["runtimeValue"]["constant"], task, where)
    if "componentInputParameter" in source:
        name = source["componentInputParameter"]
        if name not in scope.parameters:
            raise DriverError(f"Task `{where}`: the parent graph has no input `{name}`.")
        value = scope.parameters[name]
        if value is None:
            raise NullError(f"Task `{where}`: the parameter `{name}` has no value.")
    elif "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        value = _output(scope, output["producerTask"], output["outputParameterKey"], where)
    elif "taskFinalStatus" in source:
        value = {
            "state": "COMPLETE",
            "pipelineTaskName": source["taskFinalStatus"]["producerTask"],
            "pipelineJobResourceName": RUN_NAME,
            "error": {},
        }
    else:
        raise DriverError(f"Task `{where}`: the double knows no input of the form {sorted(source)}.")
    return _selected(value, source.get("parameterExpressionSelector"), where)


def check_run_parameters(definitions: Spec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's parameters with their defaults; one that is optional and has none is None."""
    for name, value in given.items():
        if name not in definitions:
            raise DriverError(f"The pipeline has no parameter `{name}`.")
        _check_type(value, definitions[name]["parameterType"], f"Parameter `{name}`")
    parameters = {}
    for name, definition in definitions.items():
        if name in given:
            parameters[name] = given[name]
        elif "defaultValue" in definition or definition.get("isOptional"):
            parameters[name] = whole(definition.get("defaultValue"))
        else:
            raise DriverError(f"The pipeline's parameter `{name}` is missing.")
    return parameters


def check_outputs(definitions: Spec, given: Mapping[str, Any], where: str) -> None:
    """Raise a DriverError unless a component may return these output parameters."""
    for name, value in given.items():
        if name not in definitions:
            raise DriverError(f"Task `{where}` has no output parameter `{name}`.")
        _check_type(value, definitions[name]["parameterType"], f"Task `{where}`, output `{name}`")


def whole(value: Any) -> Any:
    """Return a value of the compiled pipeline with whole numbers as such: YAML has them as 1.0, JSON as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}
    return [whole(each) for each in value] if isinstance(value, list) else value


def text_of(value: Any) -> str:
    """Return a value as the text that a STRING input takes."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _constant(value: Any, task: Spec, where: str) -> Any:
    if isinstance(value, str):
        if "{{$.workspace_path}}" in value:
            raise DriverError(f"Task `{where}`: workspaces are not part of the double.")
        names = {"{{$.pipeline_task_name}}": task["taskInfo"]["name"]}
        return {**PLACEHOLDERS, **names}.get(value, value)
    return whole(value)


def _output(scope: Scope, producer: str, key: str, where: str) -> Any:
    produced = scope.finished[producer].parameters
    if key not in produced:
        raise DriverError(f"Task `{where}` reads the output `{key}` of `{producer}`, which was not given.")
    return produced[key]


def _artifacts(source: Spec, scope: Scope, where: str) -> list[Spec]:
    if "componentInputArtifact" in source:
        found = scope.artifacts.get(source["componentInputArtifact"])
    else:
        output = source["taskOutputArtifact"]
        found = scope.finished[output["producerTask"]].artifacts.get(output["outputArtifactKey"])
    if found is None:
        raise DriverError(f"Task `{where}`: there is no such artifact: {json.dumps(source)}.")
    return found


def _selected(value: Any, selector: str | None, where: str) -> Any:
    if selector is None:
        return value
    match = KEY_OF_ITEM.fullmatch(selector)
    item = json.loads(text_of(value)) if match else None
    if match is None or not isinstance(item, dict) or match[1] not in item:
        raise DriverError(f"Task `{where}`: `{selector}` cannot be taken from {value!r}.")
    return item[match[1]]


def _converted(
    parameters: dict[str, Any], definitions: Spec, ignored: str | None, where: str
) -> dict[str, Any]:
    """Turn what a STRING input takes into a text, and check all others but one that is ignored."""
    for name, definition in definitions.items():
        if name == ignored:
            continue
        kind = definition["parameterType"]
        if kind == "TASK_CONFIG":
            raise DriverError(f"Task `{where}`: dsl.TaskConfig is not part of the double.")
        if name not in parameters:
            if not definition.get("isOptional"):
                raise DriverError(f"Task `{where}`: the input `{name}` is missing.")
        elif kind == "STRING":
            if parameters[name] is not None:
                parameters[name] = text_of(parameters[name])
        elif parameters[name] is not None:
            _check_type(parameters[name], kind, f"Task `{where}`, input `{name}`")
    return parameters


def _check_type(value: Any, kind: str, where: str) -> None:
    is_right = isinstance(value, TYPES[kind])
    if isinstance(value, bool) and kind != "BOOLEAN":
        is_right = False
    if not is_right:
        raise DriverError(f"{where}: a {kind} is expected, not {value!r}.")
