"""What recorded events become in MLflow.

A pipeline run is one parent run, found by its tag `kfp.pipeline_run_id`; below it is one child run each time
a step started, found by its tags `gradsift.step` and `gradsift.attempt`. A step that recorded an
`MLFLOW_RUN_ID` (Kubeflow's own MLflow plugin made the run) uses that run instead. Everything goes through
`MlflowClient` with explicit run ids, and sending an event again changes nothing.
"""

import json
import logging
import posixpath
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.errors import GradsiftError
from gradsift.components.shared.tracking.event_log import PIPELINE
from gradsift.components.shared.tracking.mlflow_connection import experiment_name, find_experiment
from gradsift.components.shared.tracking.serving import Serving

EVALUATION = "evaluation"
MODEL_NAME = "model"
PARENT_TAG = "mlflow.parentRunId"
END_TAGS = {"gradsift.reused", "gradsift.error", "gradsift.kind"}
NAME_LENGTH = 250
VALUE_LENGTH = 5000
DATASET_NAME_LENGTH = 500
DIGEST_LENGTH = 36
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
SERVED_WITH = ("mlflow", "torch", "transformers", "safetensors")

logger = logging.getLogger(__name__)

Event = dict[str, Any]


class MlflowRuns:
    """Finds the MLflow run of a step, making it and its parent where they are missing."""

    def __init__(self, artifact_location: str | None) -> None:
        """Use the server that the environment names; the location is for an experiment made here."""
        self.client = MlflowClient()
        self._artifact_location = artifact_location
        self._found: dict[tuple[str, str, int], StepRun | None] = {}

    def find(self, run: str, began: float, step: str, attempt: int, start: Event) -> "StepRun | None":
        """Return where a step's events go; None if Kubeflow's MLflow plugin takes care of them.

        Args:
            run: id of the pipeline run.
            began: unix time of the pipeline run's first event.
            step: name of the step, or `PIPELINE`.
            attempt: which start of the step, from 1.
            start: the event of that start.
        """
        key = (run, step, attempt)
        if key not in self._found:
            self._found[key] = self._find(run, began, step, attempt, start)
        return self._found[key]

    def _find(self, run: str, began: float, step: str, attempt: int, start: Event) -> "StepRun | None":
        plugin_run = self._existing(start.get("mlflow_run_id"))
        if plugin_run and step == PIPELINE:
            return None
        if plugin_run:
            return StepRun(self.client, step, plugin_run.info.run_id, plugin_run.data.tags.get(PARENT_TAG))
        parent = self._find_or_make({"kfp.pipeline_run_id": run}, start.get("run_name", run), began)
        if step == PIPELINE:
            return StepRun(self.client, step, parent, None)
        tags = {PARENT_TAG: parent, "gradsift.step": step, "gradsift.attempt": str(attempt)}
        return StepRun(self.client, step, self._find_or_make(tags, step, start["time"]), parent)

    def _existing(self, run_id: str | None) -> Run | None:
        if run_id is None:
            return None
        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _find_or_make(self, tags: dict[str, str], name: str, began: float) -> str:
        condition = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
        order = ["attributes.start_time ASC"]
        runs = self.client.search_runs([self._experiment], condition, order_by=order)
        of_this_level = [run for run in runs if (PARENT_TAG in run.data.tags) == (PARENT_TAG in tags)]
        run = next(iter(of_this_level), None) or self.client.create_run(
            self._experiment, start_time=_milliseconds(began), tags=tags, run_name=name
        )
        run_id: str = run.info.run_id
        return run_id

    @cached_property
    def _experiment(self) -> str:
        if experiment := find_experiment(self.client):
            return str(experiment.experiment_id)
        try:
            return str(
                self.client.create_experiment(experiment_name(), artifact_location=self._artifact_location)
            )
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS" and (made := find_experiment(self.client)):
                return str(made.experiment_id)  # another run made it in between
            raise


@dataclass(frozen=True)
class StepRun:
    """The MLflow run of a step.

    Attributes:
        client: the connection to MLflow.
        step: name of the step.
        id: id of the MLflow run.
        parent: id of the MLflow run above it, if there is one.
    """

    client: MlflowClient
    step: str
    id: str
    parent: str | None

    def send(self, kind: str, events: list[Event]) -> None:
        """Send events of one kind. What MLflow refuses, or a file that is gone, is warned of and left out."""
        senders: dict[str, Callable[[list[Event]], None]] = {
            "start": self._start,
            "metric": self._metrics,
            "dataset": self._datasets,
            "artifact": self._artifacts,
            "model": self._model,
            "end": self._end,
        }
        if kind not in senders:
            return
        try:
            senders[kind](events)
        except (MlflowException, GradsiftError) as error:
            if isinstance(error, MlflowException) and error.error_code not in REFUSALS:
                raise
            logger.warning("A %s event of step %s is not in MLflow: %s", kind, self.step, error)

    def _start(self, events: list[Event]) -> None:
        known = self.client.get_run(self.id).data.params
        params = {_name(name): _value(value) for event in events for name, value in event["params"].items()}
        new = [Param(name, value) for name, value in params.items() if name not in known]
        self.client.log_batch(self.id, params=new)

    def _metrics(self, events: list[Event]) -> None:
        metrics = [
            Metric(_name(name), value, _milliseconds(event["time"]), event.get("step", 0))
            for event in events
            for name, value in event["values"].items()
        ]
        self.client.log_batch(self.id, metrics=metrics)
        if self.parent and self.step == EVALUATION:
            self.client.log_batch(self.parent, metrics=metrics)

    def _datasets(self, events: list[Event]) -> None:
        inputs = [
            DatasetInput(
                Dataset(
                    name=event["name"][:DATASET_NAME_LENGTH],
                    digest=event["digest"][:DIGEST_LENGTH],
                    source_type="s3" if event["uri"].startswith("s3://") else "local",
                    source=json.dumps({"uri": event["uri"]}),
                    profile=json.dumps({"num_rows": event["rows"], "digest": event["digest"]}),
                ),
                [InputTag("mlflow.data.context", event["context"])],
            )
            for event in events
        ]
        self.client.log_inputs(self.id, inputs)

    def _artifacts(self, events: list[Event]) -> None:
        for event in events:
            path = fetch(_output(event), [event["name"]]) / event["name"]
            self.client.log_artifact(self.id, str(path), event["artifact_path"])

    def _model(self, events: list[Event]) -> None:
        run = self.client.get_run(self.id)
        models = run.outputs.model_outputs if run.outputs else []
        if any(self.client.get_logged_model(model.model_id).status == "READY" for model in models):
            return
        folder = fetch(_output(events[-1]))
        # Left to itself, Model.log puts the model into the environment's experiment, not into the run's.
        model = self.client.create_logged_model(
            run.info.experiment_id, MODEL_NAME, source_run_id=self.id, params=run.data.params
        )
        _log_model(model.model_id, self.id, folder)

    def _end(self, events: list[Event]) -> None:
        event = events[-1]
        tags = {"gradsift.reused": "true"} if event["status"] == "reused" else {}
        tags |= {f"gradsift.{name}": _value(event[name]) for name in ("error", "kind") if name in event}
        self.client.log_batch(self.id, tags=[RunTag(name, value) for name, value in tags.items()])
        for name in END_TAGS & self.client.get_run(self.id).data.tags.keys() - tags.keys():
            self.client.delete_tag(self.id, name)
        ended = _milliseconds(event["time"])
        if self.step == PIPELINE:
            self._end_killed_steps(ended)
        self.client.set_terminated(self.id, "FAILED" if event["status"] == "failed" else "FINISHED", ended)

    def _end_killed_steps(self, ended: int) -> None:
        """End the runs of steps that never said how they ended."""
        experiment = self.client.get_run(self.id).info.experiment_id
        condition = f"tags.`{PARENT_TAG}` = '{self.id}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([experiment], condition):
            self.client.set_terminated(run.info.run_id, "KILLED", ended)


def _log_model(model_id: str, run_id: str, folder: Path) -> None:
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    serving = Serving.read(folder)
    # A nameless input column takes a list of texts as well as a table with one column of them.
    inputs = Schema([ColSpec("string")])
    outputs = Schema([ColSpec(kind, name) for name, kind in serving.answers.items()])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        Model.log(
            artifact_path=None,
            flavor=pyfunc,
            run_id=run_id,
            model_id=model_id,
            python_model=str(serving.code_file),
            artifacts={"model": str(folder)},
            signature=ModelSignature(inputs, outputs),
            pip_requirements=_requirements(),
        )


def _output(event: Event) -> StepOutput:
    return StepOutput(event["uri"], event["digest"], {}, reused=True)


def _requirements() -> list[str]:
    """Return what serving the model needs, in the versions it was made with where they are here."""
    needed = [f"gradsift[train]=={version('gradsift')}"]
    for package in SERVED_WITH:
        try:
            needed.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return needed


def _name(name: str) -> str:
    """Return a metric's or parameter's name as MLflow allows it: few special characters, a proper path."""
    allowed = re.sub(r"[^\w\-./: ]", "_", name)[:NAME_LENGTH]
    return posixpath.normpath(allowed).lstrip("./") or "_"


def _value(value: Any) -> str:
    return str(value)[:VALUE_LENGTH]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
