"""A double of the Kubeflow Pipelines API (v2beta1), as far as gradsift uses it: an HTTP server with a state.

Paths, status codes, JSON forms, filters, page tokens, unique names and checks are those of the API server's
sources (backend/src/apiserver of kubeflow/pipelines): empty fields are left out, numbers of 64 bits are texts,
names of pipelines, versions and experiments are unique, those of runs and recurring runs are not, and a recurring
run that is deleted takes its runs with it unless they are orphaned.
"""

import base64
import email.parser
import email.policy
import json
import re
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import yaml

Thing = dict[str, Any]
Answer = tuple[int, Thing]
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 502: 14, 503: 14, 504: 4}
FINISHED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}


class RefusalError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KfpApi:
    """The API's state, and the knobs of a test.

    Attributes:
        pipelines, versions, experiments, runs, recurring_runs: what exists, by id, in order of creation.
        token: the bearer token that every request has to carry; None lets all in.
        multi_user: whether things belong to namespaces.
        knows_orphans: whether the propagation policy of a deletion counts; servers before 2.16 do not know it.
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
        self.knows_orphans = True
        self.max_page_size = 200
        self.script: list[Thing] = []
        self.faults: list[int | None] = []
        self.requests: list[str] = []
        self.before: Callable[[str], None] = lambda request: None
        self._lock = threading.Lock()
        self._clock = datetime(2026, 1, 1, tzinfo=UTC)

    def fire(self, recurring_run_id: str, state: str = "RUNNING") -> str | None:
        """Let a recurring run's time come; return the id of the run that it starts, if it is enabled."""
        recurring = self.recurring_runs[recurring_run_id]
        if recurring["status"] != "ENABLED":
            return None
        run = self._new(
            self.runs, "run_id", {"display_name": f"{recurring['display_name']}-1", "state": state}
        )
        run["experiment_id"] = recurring["experiment_id"]
        run["recurring_run_id"] = recurring_run_id
        return str(run["run_id"])

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer a request."""
        address = urlsplit(target)
        request = f"{method} {address.path.removeprefix('/apis/v2beta1')}"
        self.before(request)
        with self._lock:
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else None
            try:
                if fault:
                    raise RefusalError(fault, "upstream connect error or disconnect/reset before headers")
                if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
                    raise RefusalError(401, "Request header error: there is no valid user identity")
                return self._dispatch(request, dict(parse_qsl(address.query)), headers, body)
            except RefusalError as refusal:
                return refusal.status, _error(refusal, upload="/upload" in request)

    def _dispatch(self, request: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
        for pattern, handler in ROUTES.items():
            if match := re.fullmatch(pattern, request):
                content = _uploaded(headers, body) if "/upload" in request else json.loads(body or b"{}")
                return 200, _without_empty(handler(self, *match.groups(), query, content))
        raise RefusalError(404, "Not Found")

    def _healthz(self, query: dict[str, str], body: Thing) -> Thing:
        return {"multi_user": self.multi_user, "pipeline_store": "database"}

    def _create_pipeline(self, query: dict[str, str], body: Thing) -> Thing:
        namespace = self._namespace(body.get("namespace"))
        name = body.get("name") or body.get("display_name")
        if not name:
            raise RefusalError(400, "pipeline's name cannot be empty")
        for other in self.pipelines.values():
            if (other["name"], other["namespace"]) == (name, namespace):
                raise RefusalError(409, f"Failed to create a new pipeline. The name {name} already exist")
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
            if (other["name"], other["pipeline_id"]) == (name, pipeline_id):
                raise RefusalError(409, "Failed to create a pipeline version")
        fields = {"pipeline_id": pipeline_id, "name": name, "display_name": name, "pipeline_spec": body}
        return self._new(self.versions, "pipeline_version_id", fields)

    def _create_experiment(self, query: dict[str, str], body: Thing) -> Thing:
        namespace = self._namespace(body.get("namespace"), needed=True)
        for other in self.experiments.values():
            if (other["display_name"], other["namespace"]) == (body["display_name"], namespace):
                raise RefusalError(
                    409, f"Failed to create a new experiment. The name {body['display_name']} already exists"
                )
        fields = {**body, "namespace": namespace, "storage_state": "AVAILABLE"}
        return self._new(self.experiments, "experiment_id", fields)

    def _create_run(self, query: dict[str, str], body: Thing) -> Thing:
        self._check_references(body)
        return self._new(
            self.runs, "run_id", {"service_account": "pipeline-runner", **body, "state": "PENDING"}
        )

    def _get_run(self, run_id: str, query: dict[str, str], body: Thing) -> Thing:
        run = self._get(self.runs, run_id)
        if self.script and run["state"] not in FINISHED:
            run.update(self.script.pop(0))
        return run

    def _create_recurring_run(self, query: dict[str, str], body: Thing) -> Thing:
        self._check_references(body)
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise RefusalError(400, "The max concurrency of the recurring run is out of range. Support 1-10")
        cron = body.get("trigger", {}).get("cron_schedule", {}).get("cron", "")
        if len(cron.split()) not in {5, 6}:
            raise RefusalError(
                400, "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron)"
            )
        mode = body.get("mode", "DISABLE")
        fields = {"service_account": "pipeline-runner", **body, "status": f"{mode}D"}
        fields["max_concurrency"] = str(body["max_concurrency"])
        fields["namespace"] = self.experiments[body["experiment_id"]]["namespace"]
        return self._new(self.recurring_runs, "recurring_run_id", fields)

    def _switch_recurring_run(self, run_id: str, mode: str, query: dict[str, str], body: Thing) -> Thing:
        self._get(self.recurring_runs, run_id).update(mode=mode.upper(), status=f"{mode.upper()}D")
        return {}

    def _delete_recurring_run(self, run_id: str, query: dict[str, str], body: Thing) -> Thing:
        self._get(self.recurring_runs, run_id)
        del self.recurring_runs[run_id]
        if not (self.knows_orphans and query.get("propagation_policy") == "ORPHAN"):
            for run in self.runs.values():
                if run.get("recurring_run_id") == run_id and run["state"] not in FINISHED:
                    run["state"] = "FAILED"
        return {}

    def _check_references(self, body: Thing) -> None:
        if not body.get("display_name"):
            raise RefusalError(400, "The run name is empty. Please specify a valid name")
        self._get(self.experiments, body.get("experiment_id", ""))
        reference = body.get("pipeline_version_reference", {})
        version = self._get(self.versions, reference.get("pipeline_version_id", ""))
        inputs = version["pipeline_spec"]["root"].get("inputDefinitions", {}).get("parameters", {})
        for name in body.get("runtime_config", {}).get("parameters", {}):
            if name not in inputs:
                raise RefusalError(400, f"Invalid input error: parameter {name} is not in the pipeline")

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
            raise RefusalError(404, f"ResourceNotFoundError: {key!r} not found")
        return things[key]

    def _page(self, field: str, things: list[Thing], query: dict[str, str]) -> Thing:
        """Return a page; its token holds where the next one begins, and for which filter."""
        wanted = json.loads(unquote_plus(query.get("filter", ""))) if query.get("filter") else {}
        token = {"offset": 0, "filter": wanted}
        if query.get("page_token"):
            token = json.loads(base64.b64decode(query["page_token"]))
            if wanted and token["filter"] != wanted:
                raise RefusalError(
                    400, "page token does not match the supplied sort by and/or filtering criteria"
                )
        found = [thing for thing in things if _matches(thing, token["filter"])]
        size = min(int(query.get("page_size") or 20), self.max_page_size)
        end = token["offset"] + size
        following = base64.b64encode(json.dumps({**token, "offset": end}).encode()).decode()
        page = {field: found[token["offset"] : end], "total_size": len(found)}
        return {**page, "next_page_token": following if end < len(found) else ""}

    def _list(
        self, field: str, things: dict[str, Thing], query: dict[str, str], needed: bool = True
    ) -> Thing:
        chosen = list(things.values())
        if "experiment_id" in query:
            chosen = [thing for thing in chosen if thing["experiment_id"] == query["experiment_id"]]
        elif self.multi_user:
            namespace = self._namespace(query.get("namespace"), needed)
            chosen = [thing for thing in chosen if thing.get("namespace", "") == namespace]
        return self._page(field, chosen, query)


def _list_versions(api: KfpApi, pipeline_id: str, query: dict[str, str], body: Thing) -> Thing:
    chosen = [version for version in api.versions.values() if version["pipeline_id"] == pipeline_id]
    return api._page("pipeline_versions", chosen, query)


ROUTES: dict[str, Callable[..., Thing]] = {
    "GET /healthz": KfpApi._healthz,
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
    "GET /recurringruns": lambda api, query, body: api._list("recurringRuns", api.recurring_runs, query),
    "POST /recurringruns": KfpApi._create_recurring_run,
    "POST /recurringruns/([^/]+):(enable|disable)": KfpApi._switch_recurring_run,
    "DELETE /recurringruns/([^/]+)": KfpApi._delete_recurring_run,
}


def _matches(thing: Thing, wanted: Thing) -> bool:
    for predicate in wanted.get("predicates", []):
        value = thing.get(predicate["key"])
        if predicate["operation"] in {"EQUALS", 1}:
            if value != predicate["stringValue"]:
                return False
        elif predicate["operation"] in {"IN", 8}:
            if value not in predicate["stringValues"]["values"]:
                return False
        else:
            raise RefusalError(
                400, f"failed to parse valid filter: unknown operation {predicate['operation']}"
            )
    return True


def _error(refusal: RefusalError, upload: bool) -> Thing:
    if upload:
        return {"error_message": str(refusal), "error_details": f"{refusal}: details"}
    detail = {
        "@type": "type.googleapis.com/google.rpc.Status",
        "code": CODES.get(refusal.status, 2),
        "message": str(refusal),
    }
    return {
        "error": str(refusal),
        "code": CODES.get(refusal.status, 2),
        "message": str(refusal),
        "details": [detail],
    }


def _uploaded(headers: dict[str, str], body: bytes) -> Thing:
    """Return the first document of the YAML file in a multipart body."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    (part,) = message.iter_parts()
    if part.get_param("name", header="content-disposition") != "uploadfile":
        raise RefusalError(400, "Failed to read pipeline from file")
    return dict(next(yaml.load_all(part.get_payload(decode=True), Loader=yaml.CSafeLoader)))


def _without_empty(value: Any) -> Any:
    """Leave out empty fields, as the gateway does; parameters are values of their own."""
    if isinstance(value, dict):
        return {
            key: inner if key == "parameters" else _without_empty(inner)
            for key, inner in value.items()
            if inner not in ("", [], None, False)
        }
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value
