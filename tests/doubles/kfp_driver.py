"""A double of KFP 2.17's driver and compiler: from a compiled pipeline and a run's parameters to the run's pods.

It walks through a run as Kubeflow Pipelines does and says of every task that runs in a pod what the driver gives
that pod; the tests say what the tasks return. The rules are those of backend/src/v2/driver of kubeflow/pipelines
2.17 (resolve.go, driver.go, k8s.go). What is left out is refused: importers, tasks that create volumes, caching,
workspaces, and `dsl.TaskConfig`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from doubles.kfp_condition import evaluate
from doubles.kfp_error import DriverError
from doubles.kfp_inputs import (
    Outputs,
    Scope,
    check_outputs,
    check_run_parameters,
    iteration_inputs,
    task_inputs,
)
from doubles.kfp_pod import Options, PodTask, pod_task

from gradsift.pipelines.text_channels import kubernetes_executors

Spec = Mapping[str, Any]
TaskOutputs = Mapping[str, Mapping[str, Any]] | Callable[[PodTask], Mapping[str, Any]]


def resolve(
    documents: Sequence[Spec], parameters: Mapping[str, Any] | None = None, outputs: TaskOutputs | None = None
) -> list[PodTask]:
    """Return the pods of a run, in an order in which they may start.

    A task whose condition is false has none, nor have the tasks that wait for it. The tasks of a loop are there
    once for each item. Every task succeeds.

    Args:
        documents: the compiled pipeline as `yaml.safe_load_all` reads it: its specification, then the platform's.
        parameters: the run's parameters; a parameter that is missing has its default.
        outputs: the output parameters of tasks, by the task's name, or what returns them for a pod. Only those that
            another task reads are needed.

    Raises:
        DriverError: the driver would fail, the API server would refuse the parameters, a component cannot return
            such outputs, an output that is read is missing, or the pipeline has something that is left out here.
    """
    run = _Run(documents, outputs or {})
    root = documents[0]["root"]
    definitions = root.get("inputDefinitions", {}).get("parameters", {})
    run.graph(root, Scope(check_run_parameters(definitions, parameters or {})), ())
    return run.pods


@dataclass
class _Run:
    """A run on its way: the pods so far."""

    documents: Sequence[Spec]
    outputs: TaskOutputs
    pods: list[PodTask] = field(default_factory=list)

    def graph(self, component: Spec, scope: Scope, path: tuple[str, ...]) -> Outputs:
        """Run the tasks of a graph in their order and return what the graph gives to others."""
        tasks = component["dag"]["tasks"]
        for name in _order(tasks):
            task = tasks[name]
            if all(each in scope.finished for each in task.get("dependentTasks", [])):
                outputs = self.task(task, scope, (*path, name))
                if outputs is not None:
                    scope.finished[name] = outputs
        return _graph_outputs(component, scope)

    def task(self, task: Spec, scope: Scope, path: tuple[str, ...]) -> Outputs | None:
        """Run a task and return its outputs; None if its condition is false."""
        component = self.documents[0]["components"][task["componentRef"]["name"]]
        where = "/".join(path)
        inputs = task_inputs(task, component, scope, where)
        condition = task.get("triggerPolicy", {}).get("condition")
        if condition and not evaluate(condition, inputs.parameters):
            return None
        if "dag" not in component:
            return self.pod(task, component, inputs, scope, path)
        if "parameterIterator" in task:
            return self.loop(task, component, inputs, path)
        return self.graph(component, Scope(inputs.parameters, inputs.artifacts), path)

    def loop(self, task: Spec, component: Spec, inputs: Outputs, path: tuple[str, ...]) -> Outputs:
        """Run a loop's graph once for each item and return the lists of its outputs."""
        source = task["parameterIterator"]["items"]
        items = json.loads(source["raw"]) if "raw" in source else inputs.parameters[source["inputParameter"]]
        if isinstance(items, str):
            items = json.loads(items)
        if not isinstance(items, list):
            raise DriverError(f"Task `{'/'.join(path)}`: a loop takes a list, not {items!r}.")
        each = []
        for index, item in enumerate(items):
            iteration = (*path, str(index))
            values = iteration_inputs(task, component, inputs, item, "/".join(iteration))
            each.append(self.graph(component, Scope(values, inputs.artifacts), iteration))
        return _collected(each)

    def pod(
        self, task: Spec, component: Spec, inputs: Outputs, scope: Scope, path: tuple[str, ...]
    ) -> Outputs:
        """Start a task's pod and return what it gives to others."""
        label = component["executorLabel"]
        options = Options(
            pipeline=self.documents[0]["pipelineInfo"]["name"],
            path=path,
            task=task,
            component=component,
            executor=self.documents[0]["deploymentSpec"]["executors"][label],
            kubernetes=kubernetes_executors(self.documents).get(label, {}),
            execution_id=len(self.pods) + 1,
        )
        started = pod_task(options, inputs, scope)
        self.pods.append(started)
        given = self.outputs(started) if callable(self.outputs) else self.outputs.get(started.name, {})
        declared = component.get("outputDefinitions", {}).get("parameters", {})
        check_outputs(declared, given, options.where)
        artifacts = started.executor_input["outputs"]["artifacts"]
        return Outputs(
            dict(given),
            {key: found["artifacts"] for key, found in artifacts.items() if key != "executor-logs"},
        )


def _order(tasks: Spec) -> Iterable[str]:
    """Return a graph's tasks so that each one follows those it waits for, else by name."""
    upstream = {name: tasks[name].get("dependentTasks", []) for name in sorted(tasks)}
    return TopologicalSorter(upstream).static_order()


def _graph_outputs(component: Spec, scope: Scope) -> Outputs:
    """Return what a graph gives to others: outputs of its tasks, of the first that ran where one of several did."""
    parameters: dict[str, Any] = {}
    artifacts: dict[str, list[Spec]] = {}
    outputs = component["dag"].get("outputs", {})
    for name, source in outputs.get("parameters", {}).items():
        one_of = source.get("valueFromOneof", {}).get("parameterSelectors", [])
        for each in one_of or [source["valueFromParameter"]]:
            produced = scope.finished.get(each["producerSubtask"])
            if produced and each["outputParameterKey"] in produced.parameters:
                parameters.setdefault(name, produced.parameters[each["outputParameterKey"]])
    for name, source in outputs.get("artifacts", {}).items():
        for each in source["artifactSelectors"]:
            produced = scope.finished.get(each["producerSubtask"])
            if produced and each["outputArtifactKey"] in produced.artifacts:
                artifacts.setdefault(name, produced.artifacts[each["outputArtifactKey"]])
    return Outputs(parameters, artifacts)


def _collected(iterations: list[Outputs]) -> Outputs:
    """Return what a loop gives to others: lists of what its iterations give; nothing if there are none."""
    if not iterations:
        return Outputs({}, {})
    first = iterations[0]
    return Outputs(
        {key: [each.parameters.get(key) for each in iterations] for key in first.parameters},
        {key: [one for each in iterations for one in each.artifacts[key]] for key in first.artifacts},
    )
