"""A double of the Kubeflow Pipelines API (v2beta1), as far as gradsift uses it: the state behind the HTTP server.

Paths, status codes, JSON forms, filters, page tokens, unique names and checks are those of KFP 2.17.0, as its
real API server answered: empty fields are left out, 64-bit numbers are texts, the names of pipelines, versions and
experiments are unique whatever their case, those of runs and recurring runs are not. A terminated run ends as
FAILED. Deleting a recurring run takes the workflows of its runs along unless they are orphaned; those runs stay
RUNNING.
"""

import json
import re
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from doubles.kfp_api_requests import (
    RefusalError,
    Thing,
    check_parameters,
    page_of,
    same_name,
    uploaded_pipeline,
)

Answer = tuple[int, Thing]
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 502: 14, 503: 14, 504: 4}
KINDS = {400: "Invalid input error", 404: "ResourceNotFoundError", 409: "Already exist error"}
FINISHED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
MAX_NAME = 255
"""Width of the database's columns for names."""


class KfpApi:
    """The API's state, and the knobs of a test.

    Attributes:
        pipelines, versions, experiments, runs, recurring_runs: what exists, by id, in order of creation.
        token: the bearer token that every request has to carry; None lets all in.
        multi_user: whether things belong to namespaces.
        release: the release that its health names.
        literals: whether its form of a pipeline has `literals`, as since 2.16.
        lost_switches: how many of the next requests to enable or disable are answered, then lost in a restart.
        max_page_size: largest page of a listing, whatever is asked for.
        script: states that a started run goes through, one each time it is asked for: a run's fields.
        faults: statuses that the next requests are answered with instead; None lets one through.
        requests: what came in, as "METHOD path".
        before: called with each request of that kind, before it is answered; another thread may act in it.
    """

    def __init__(self) -> None:
        self.pipelines: dict[str, Thing] = {}
        self.versions: dict[str, Thing] = {}
        self.experiments: dict[str, Thing] = {}
        self.runs: dict[str, Thing] = {}
        self.recurring_runs: dict[str, Thing] = {}
        self.token: str | None = None
        self.multi_user = False
        self.release = "2.17.0"
        self.literals = True
        self.lost_switches = 0
        self.max_page_size = 200
        self.script: list[Thing] = []
        self.faults: list[int | None] = []
        self.requests: list[str] = []
        self.before: Callable[[str], None] = lambda request: None
        self._abandoned: set[str] = set()
        self._lock = threading.Lock()
        self._clock = datetime(2026, 1, 1, tzinfo=UTC)

    def fire(self, recurring_run_id: str, state: str = "RUNNING") -> str | None:
        """Let a recurring run's time come; return the id of the run that it starts, if it is enabled."""
        recurring = self.recurring_runs[recurring_run_id]
        if recurring["status"] != "ENABLED":
            return None
        run = self._new(self.runs, "run_id", {"display_name": f"{recurring['display_name']}-1"})
        run["experiment_id"] = recurring["experiment_id"]
        run["recurring_run_id"] = recurring_run_id
        self._enter(run, state)
        return str(run["run_id"])

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer a request."""
        address = urlsplit(target)
        request = f"{method} {address.path.removeprefix('/apis/v2beta1')}"
        self.before(request)
        with self._lock:
            self.requests.append(request)
            if fault := self.faults.pop(0) if self.faults else None:
                return fault, {"message": "upstream connect error or disconnect/reset before headers"}
            try:
                if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
                    raise RefusalError(401, "Request header error: there is no valid user identity")
                return self._dispatch(request, dict(parse_qsl(address.query)), headers, body)
            except RefusalError as refusal:
                return refusal.status, _error(refusal, request)

    def _dispatch(self, request: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
        if request == "GET /healthz":
            store = {"multi_user": self.multi_user, "pipeline_store": "database"}
            return 200, {"commit_sha": "unknown", "tag_name": self.release, **store}
        for pattern, handler in ROUTES.items():
            if match := re.fullmatch(pattern, request):
                if "/upload" in request:
                    content = uploaded_pipeline(headers, body, self.literals)
                else:
                    content = json.loads(body or b"{}")
                return 200, _without_empty(handler(self, *match.groups(), query, content))
        raise RefusalError(404, "Not Found")

    def _create_pipeline(self, query: dict[str, str], body: Thing) -> Thing:
        namespace = self._namespace(body.get("namespace"))
        name = body.get("name") or body.get("display_name")
        if not name:
            raise RefusalError(400, "pipeline's name cannot be empty")
        for other in self.pipelines.values():
            if same_name(other["name"], name) and other["namespace"] == namespace:
                raise RefusalError(409, f"The name {name} already exist. Please specify a new name")
        fields = {
            **body,
            "name": name,
            "display_name": body.get("display_name") or name,
            "namespace": namespace,
        }
        return self._new(self.pipelines, "pipeline_id", fields)

    def _upload_version(self, query: dict[str, str], body: Thing) -> Thing:
        pipeline_id, name = query.get("pipelineid", ""), query.get("name", "")
        if pipeline_id not in self.pipelines:
            raise RefusalError(400, "Failed to create a pipeline version")
        for other in self.versions.values():
            if same_name(other["name"], name) and other["pipeline_id"] == pipeline_id:
                raise RefusalError(409, "Failed to create a pipeline version")
        fields = {"pipeline_id": pipeline_id, "name": name, "display_name": name, "pipeline_spec": body}
        return self._new(self.versions, "pipeline_version_id", fields)

    def _create_experiment(self, query: dict[str, str], body: Thing) -> Thing:
        namespace, name = self._namespace(body.get("namespace"), needed=True), body.get("display_name", "")
        if not name:
            raise RefusalError(500, "Experiment must have a non-empty name")
        for other in self.experiments.values():
            if same_name(other["display_name"], name) and other["namespace"] == namespace:
                raise RefusalError(409, f"The name {name} already exists. Please specify a new name")
        fields = {**body, "namespace": namespace, "storage_state": "AVAILABLE"}
        return self._new(self.experiments, "experiment_id", fields)

    def _create_run(self, query: dict[str, str], body: Thing) -> Thing:
        references = self._references(body)
        parameters = body.get("runtime_config", {}).get("parameters", {})
        check_parameters(
            self.versions[references["pipeline_version_reference"]["pipeline_version_id"]], parameters
        )
        if len(body["display_name"]) > MAX_NAME:
            raise RefusalError(500, "Data too long for column 'DisplayName' at row 1")
        fields = {"service_account": "pipeline-runner", **body, **references}
        return self._enter(self._new(self.runs, "run_id", fields), "PENDING")

    def _get_run(self, run_id: str, query: dict[str, str], body: Thing) -> Thing:
        run = self._get(self.runs, run_id)
        if run["state"] == "CANCELING":
            self._enter(run, "FAILED")
        elif self.script and run["state"] not in FINISHED and run_id not in self._abandoned:
            run.update(self.script.pop(0))
            self._enter(run, run["state"])
        return run

    def _terminate_run(self, run_id: str, query: dict[str, str], body: Thing) -> Thing:
        self._enter(self._get(self.runs, run_id), "CANCELING")
        return {}

    def _enter(self, run: Thing, state: str) -> Thing:
        """Let a run be in a state, which its history shows once."""
        history = run.setdefault("state_history", [])
        if not history or history[-1]["state"] != state:
            history.append({"update_time": f"{self._clock:%Y-%m-%dT%H:%M:%SZ}", "state": state})
        run["state"] = state
        return run

    def _create_recurring_run(self, query: dict[str, str], body: Thing) -> Thing:
        references = self._references(body)
        parameters = body.get("runtime_config", {}).get("parameters", {})
        given = {name: value for name, value in parameters.items() if value is not None}
        check_parameters(
            self.versions[references["pipeline_version_reference"]["pipeline_version_id"]], given
        )
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise RefusalError(400, "The max concurrency of the recurring run is out of range. Support 1-10")
        cron = body.get("trigger", {}).get("cron_schedule", {}).get("cron", "")
        if cron and not cron.startswith("@") and len(cron.split()) not in {5, 6}:
            raise RefusalError(
                400, "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron)"
            )
        mode = body.get("mode", "DISABLE")
        fields = {"service_account": "pipeline-runner", **body, **references, "status": f"{mode}D"}
        fields["max_concurrency"] = str(body["max_concurrency"])
        fields["namespace"] = self.experiments[fields["experiment_id"]]["namespace"]
        return self._new(self.recurring_runs, "recurring_run_id", fields)

    def _switch_recurring_run(self, run_id: str, mode: str, query: dict[str, str], body: Thing) -> Thing:
        run = self._get(self.recurring_runs, run_id)
        if self.lost_switches:
            self.lost_switches -= 1
        else:
            run.update(mode=mode.upper(), status=f"{mode.upper()}D")
        return {}

    def _delete_recurring_run(self, run_id: str, query: dict[str, str], body: Thing) -> Thing:
        self._get(self.recurring_runs, run_id)
        del self.recurring_runs[run_id]
        if query.get("propagation_policy") != "ORPHAN":
            runs = [run for run in self.runs.values() if run.get("recurring_run_id") == run_id]
            self._abandoned |= {run["run_id"] for run in runs if run["state"] not in FINISHED}
        return {}

    def _references(self, body: Thing) -> Thing:
        """Return what a run stands on: where nothing is named, the default experiment and the latest version."""
        if not body.get("display_name"):
            raise RefusalError(500, "The name is empty. Please specify a valid name")
        reference = body.get("pipeline_version_reference", {})
        version_id = reference.get("pipeline_version_id")
        if not version_id:
            versions = [v for v in self.versions.values() if v["pipeline_id"] == reference.get("pipeline_id")]
            if not versions:
                raise RefusalError(404, f"Pipeline {reference.get('pipeline_id')!r} not found")
            version_id = versions[-1]["pipeline_version_id"]
        elif version_id not in self.versions:
            raise RefusalError(500, f"Failed to fetch a template: PipelineVersion {version_id} not found")
        experiment_id = body.get("experiment_id") or self._default_experiment()
        self._get(self.experiments, experiment_id)
        return {
            "experiment_id": experiment_id,
            "pipeline_version_reference": {**reference, "pipeline_version_id": version_id},
        }

    def _default_experiment(self) -> str:
        for experiment in self.experiments.values():
            if experiment["display_name"] == "Default":
                return str(experiment["experiment_id"])
        fields = {"display_name": "Default", "namespace": "", "storage_state": "AVAILABLE"}
        return str(self._new(self.experiments, "experiment_id", fields)["experiment_id"])

    def _namespace(self, namespace: str | None, needed: bool = False) -> str:
        if self.multi_user and needed and not namespace:
            raise RefusalError(400, "Namespace is empty")
        return (namespace or "") if self.multi_user else ""

    def _new(self, things: dict[str, Thing], key: str, fields: Thing) -> Thing:
        self._clock += timedelta(seconds=1)
        thing = {**fields, key: str(uuid.uuid4()), "created_at": f"{self._clock:%Y-%m-%dT%H:%M:%SZ}"}
        things[thing[key]] = thing
        return thing

    def _get(self, things: dict[str, Thing], key: str) -> Thing:
        if key not in things:
            raise RefusalError(404, f"{key!r} not found")
        return things[key]

    def _list(
        self, field: str, things: dict[str, Thing], query: dict[str, str], needed: bool = True
    ) -> Thing:
        chosen = list(things.values())
        if "experiment_id" in query:
            self._get(self.experiments, query["experiment_id"])
            chosen = [thing for thing in chosen if thing["experiment_id"] == query["experiment_id"]]
        elif self.multi_user:
            namespace = self._namespace(query.get("namespace"), needed)
            chosen = [thing for thing in chosen if thing.get("namespace", "") == namespace]
        return page_of(field, chosen, query, self.max_page_size)


def _list_versions(api: KfpApi, pipeline_id: str, query: dict[str, str], body: Thing) -> Thing:
    api._get(api.pipelines, pipeline_id)
    chosen = [version for version in api.versions.values() if version["pipeline_id"] == pipeline_id]
    return page_of("pipeline_versions", chosen, query, api.max_page_size)


ROUTES: dict[str, Callable[..., Thing]] = {
    "GET /pipelines": lambda api, query, body: api._list("pipelines", api.pipelines, query, needed=False),
    "POST /pipelines": KfpApi._create_pipeline,
    "POST /pipelines/upload_version": KfpApi._upload_version,
    "GET /pipelines/([^/]+)/versions": _list_versions,
    "GET /experiments": lambda api, query, body: api._list("experiments", api.experiments, query),
    "POST /experiments": KfpApi._create_experiment,
    "GET /experiments/([^/]+)": lambda api, key, query, body: api._get(api.experiments, key),
    "GET /runs": lambda api, query, body: api._list("runs", api.runs, query),
    "POST /runs": KfpApi._create_run,
    "GET /runs/([^/]+)": KfpApi._get_run,
    "POST /runs/([^/]+):terminate": KfpApi._terminate_run,
    "GET /recurringruns": lambda api, query, body: api._list("recurringRuns", api.recurring_runs, query),
    "POST /recurringruns": KfpApi._create_recurring_run,
    "GET /recurringruns/([^/]+)": lambda api, key, query, body: api._get(api.recurring_runs, key),
    "POST /recurringruns/([^/]+):(enable|disable)": KfpApi._switch_recurring_run,
    "DELETE /recurringruns/([^/]+)": KfpApi._delete_recurring_run,
}


def _error(refusal: RefusalError, request: str) -> Thing:
    if "/upload" in request:
        return {"error_message": str(refusal), "error_details": f"{refusal}: details"}
    code = CODES.get(refusal.status, 2)
    message = f"Failed to serve {request}: {KINDS.get(refusal.status, 'InternalServerError')}: {refusal}"
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": str(refusal)}
    return {"code": code, "message": message, "details": [detail]}


def _without_empty(value: Any) -> Any:
    """Leave out empty fields, as the gateway does; parameters are values of their own."""
    if isinstance(value, dict):
        return {
            key: inner if key == "parameters" else _without_empty(inner)
            for key, inner in value.items()
            if inner not in ("", [], None, False)
        }
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value
