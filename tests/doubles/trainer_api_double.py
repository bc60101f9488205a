"""A double of the Kubernetes API with Kubeflow Trainer v2, as far as gradsift uses it: a state behind HTTP.

Paths, status codes, JSON forms, conflicts, label selectors, continue tokens, log options and what deletion does are
those of the API server (kubernetes/kubernetes, staging/src/k8s.io/apiserver) and of the TrainJob's CRD. The part of
the controllers is played by a test, by `start_nodes`, `end_nodes` and the like.
"""

import base64
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

Thing = dict[str, Any]
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "AlreadyExists",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
NAMESPACE = "team"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"

LAUNCHER = "gradsift-run-1-meta-train"
"""A step's pod, as Argo makes it."""
LAUNCHER_SPEC: Thing = {
    "containers": [
        {"name": "wait", "image": "argoexec:1"},
        {
            "name": "main",
            "image": "registry.example.com/gradsift/train@sha256:0f",
            "env": [
                {"name": "KFP_RUN_ID", "value": "run-1"},
                {
                    "name": "AWS_SECRET_ACCESS_KEY",
                    "valueFrom": {
                        "secretKeyRef": {
                            "name": "gradsift",
                            "key": "AWS_SECRET_ACCESS_KEY",
                            "optional": True,
                        }
                    },
                },
                {
                    "name": "AWS_ENDPOINT_URL",
                    "valueFrom": {
                        "configMapKeyRef": {"name": "gradsift-settings", "key": "AWS_ENDPOINT_URL"}
                    },
                },
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            "volumeMounts": [
                {"name": "gradsift", "mountPath": "/etc/gradsift/secret"},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
            ],
        },
    ],
    "volumes": [
        {"name": "gradsift", "secret": {"secretName": "gradsift", "optional": True}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "token", "projected": {"sources": []}},
    ],
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
}
LAUNCHER_LABELS = {"pipeline/runid": "run-1", "kueue.x-k8s.io/queue-name": "research"}


class RefusalError(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TrainerApi:
    """The API's state, and the knobs of a test.

    Attributes:
        train_jobs, pods: what exists, by name.
        events: in order.
        logs: the lines of each pod, with their times.
        tokens: bearer tokens that are let in.
        has_trainer: whether the cluster knows TrainJobs.
        deletion_looks: how often a deleted TrainJob is still seen before it is gone.
        max_page_size: largest page of a listing, whatever is asked for.
        expired: whether continue tokens have expired, for the next page.
        log_breaks: numbers of lines before which the connection of a followed log breaks, once each.
        faults: statuses that the next requests are answered with instead; None lets one through.
        requests: what came in, as "METHOD path", without the query.
        on_create: called with each new TrainJob, which is there by then; plays the controllers.
    """

    def __init__(self) -> None:
        self.train_jobs: dict[str, Thing] = {}
        self.pods: dict[str, Thing] = {}
        self.events: list[Thing] = []
        self.logs: dict[str, list[tuple[str, str]]] = {}
        self.tokens = {"token"}
        self.has_trainer = True
        self.deletion_looks = 0
        self.max_page_size = 500
        self.expired = False
        self.log_breaks: set[int] = set()
        self.faults: list[int | None] = []
        self.requests: list[str] = []
        self.on_create: Callable[[Thing], None] = lambda train_job: None
        self._lock = threading.RLock()
        self._clock = datetime.now(UTC)

    def add_pod(self, name: str, labels: dict[str, str], spec: Thing, phase: str = "Running") -> Thing:
        """Let a pod exist."""
        pod = {"metadata": self._metadata(name, {"labels": labels}), "spec": spec, "status": {"phase": phase}}
        with self._lock:
            self.pods[name] = pod
            self.logs[name] = []
        return pod

    def start_nodes(self, name: str) -> list[Thing]:
        """Let a TrainJob's pods start, as Trainer, JobSet and the Job controller do; earlier ones are gone."""
        for pod in self.pods_of(name):
            del self.pods[pod["metadata"]["name"]]
        nodes = self.train_jobs[name]["spec"]["trainer"]["numNodes"]
        return [
            self.add_pod(
                f"{name}-node-0-{rank}-{uuid.uuid4().hex[:5]}",
                {
                    "jobset.sigs.k8s.io/jobset-name": name,
                    "jobset.sigs.k8s.io/replicatedjob-name": "node",
                    "batch.kubernetes.io/job-completion-index": str(rank),
                },
                {"containers": [{"name": "node"}], "nodeName": f"worker-{rank}"},
            )
            for rank in range(nodes)
        ]

    def pods_of(self, name: str) -> list[Thing]:
        """Return a TrainJob's pods, in the order of their ranks."""
        return [
            pod
            for pod in list(self.pods.values())
            if pod["metadata"]["labels"].get("jobset.sigs.k8s.io/jobset-name") == name
        ]

    def say(self, pod: Thing, *lines: str) -> None:
        """Let a pod print lines."""
        with self._lock:
            for line in lines:
                self._clock = max(self._clock + timedelta(microseconds=1), datetime.now(UTC))
                stamp = f"{self._clock:%Y-%m-%dT%H:%M:%S.%f}".rstrip("0") + "Z"
                self.logs[pod["metadata"]["name"]].append((stamp, line))

    def end_pod(self, pod: Thing, exit_code: int, **status: Any) -> None:
        """Let a pod end."""
        reason = "Error" if exit_code else "Completed"
        terminated = {"exitCode": exit_code, "reason": reason, "finishedAt": self._now()}
        with self._lock:
            pod["status"] = {
                **pod["status"],
                "phase": "Failed" if exit_code else "Succeeded",
                "containerStatuses": [{"name": "node", "state": {"terminated": terminated}}],
                **status,
            }

    def set_condition(
        self, name: str, kind: str, reason: str = "", message: str = "", on: bool = True
    ) -> None:
        """Set a condition of a TrainJob."""
        condition = {
            "type": kind,
            "status": "True" if on else "False",
            "reason": reason or kind,
            "message": message,
            "lastTransitionTime": self._now(),
        }
        with self._lock:
            conditions = self.train_jobs[name].setdefault("status", {}).setdefault("conditions", [])
            conditions[:] = [each for each in conditions if each["type"] != kind] + [condition]

    def add_event(self, name: str, kind: str, reason: str, message: str) -> None:
        """Record an event on something."""
        about = {"kind": kind, "name": name, "namespace": NAMESPACE}
        event = {"involvedObject": about, "reason": reason, "message": message, "lastTimestamp": self._now()}
        with self._lock:
            self.events.append(event)

    def delete_pod(self, name: str) -> None:
        """Delete a pod, and with it every TrainJob that it alone owns."""
        with self._lock:
            uid = self.pods.pop(name)["metadata"]["uid"]
            for job, train_job in list(self.train_jobs.items()):
                if [owner["uid"] for owner in train_job["metadata"].get("ownerReferences", [])] == [uid]:
                    del self.train_jobs[job]

    def delete_train_job(self, name: str) -> None:
        """Let somebody delete a TrainJob."""
        with self._lock:
            self._delete(name)

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Answer a request: a status with a JSON value, or with the parts of a log as they come."""
        address = urlsplit(target)
        with self._lock:
            self.requests.append(f"{method} {address.path}")
            fault = self.faults.pop(0) if self.faults else None
            try:
                if fault:
                    raise RefusalError(fault, "the server is currently unable to handle the request")
                scheme, _, token = headers.get("authorization", "").partition(" ")
                if scheme.lower() != "bearer" or token not in self.tokens:
                    raise RefusalError(401, "Unauthorized")
                query = dict(parse_qsl(address.query))
                return self._dispatch(method, address.path, query, headers, body)
            except RefusalError as refusal:
                return refusal.status, _status(refusal.status, str(refusal))

    def _dispatch(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        if path.startswith(JOBS) and not self.has_trainer:
            raise RefusalError(404, "404 page not found")
        content = json.loads(body) if body else {}
        match method, path.split("/")[len(CORE.split("/")) :]:
            case "GET", ["pods"] if path.startswith(CORE):
                return 200, self._page(list(self.pods.values()), query)
            case "GET", ["pods", name] if path.startswith(CORE):
                return 200, self._get(self.pods, "pods", name)
            case "GET", ["pods", name, "log"] if path.startswith(CORE):
                return 200, self._log(name, query)
            case "GET", ["events"] if path.startswith(CORE):
                return 200, self._page(self.events, query)
        match method, path.removeprefix(JOBS).split("/"):
            case "GET", [""]:
                return 200, self._page(list(self.train_jobs.values()), query)
            case "POST", [""]:
                return 201, self._create(content)
            case "GET", ["", name]:
                return 200, self._look_at(name)
            case "PATCH", ["", name]:
                if headers["content-type"] != "application/merge-patch+json":
                    raise RefusalError(400, "the body of the request was in an unknown format")
                return 200, _merge(self._get(self.train_jobs, "trainjobs", name), content)
            case "DELETE", ["", name]:
                return 200, self._delete(name)
        raise RefusalError(404, "the server could not find the requested resource")

    def _create(self, content: Thing) -> Thing:
        name = content["metadata"]["name"]
        if name in self.train_jobs:
            raise RefusalError(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            raise RefusalError(422, f'TrainJob "{name}" is invalid: metadata.name')
        TrainerV1alpha1TrainJob.from_dict(content)
        self.train_jobs[name] = {**content, "metadata": self._metadata(name, content["metadata"])}
        self.on_create(self.train_jobs[name])
        return self.train_jobs[name]

    def _look_at(self, name: str) -> Thing:
        train_job = self._get(self.train_jobs, "trainjobs", name)
        if "deletionTimestamp" in train_job["metadata"]:
            train_job["looks"] -= 1
            if train_job["looks"] < 0:
                del self.train_jobs[name]
                raise RefusalError(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
        return train_job

    def _delete(self, name: str) -> Thing:
        train_job = self._get(self.train_jobs, "trainjobs", name)
        for pod in self.pods_of(name):
            del self.pods[pod["metadata"]["name"]]
        if self.deletion_looks == 0:
            del self.train_jobs[name]
        else:
            train_job["metadata"]["deletionTimestamp"] = self._now()
            train_job["looks"] = self.deletion_looks
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _log(self, name: str, query: dict[str, str]) -> Iterator[bytes]:
        pod = self._get(self.pods, "pods", name)
        containers = [container["name"] for container in pod["spec"]["containers"]]
        if query.get("container", containers[0]) not in containers:
            raise RefusalError(400, f"container {query['container']} is not valid for pod {name}")
        if pod["status"]["phase"] == "Pending":
            raise RefusalError(
                400, f'container "node" in pod "{name}" is waiting to start: ContainerCreating'
            )
        return self._log_lines(pod, query)

    def _log_lines(self, pod: Thing, query: dict[str, str]) -> Iterator[bytes]:
        """Yield the lines there are, and where the log is followed those to come, until the pod has ended."""
        name = pod["metadata"]["name"]
        since = datetime.now(UTC) - timedelta(seconds=int(query.get("sinceSeconds", 10**9)))
        position = max(0, len(self.logs[name]) - int(query.get("tailLines", 10**9)))
        while True:
            ended = pod["status"]["phase"] in {"Succeeded", "Failed"} or self.pods.get(name) is not pod
            lines = self.logs[name]
            while position < len(lines):
                if query.get("follow") and position in self.log_breaks:
                    self.log_breaks.remove(position)
                    raise ConnectionAbortedError
                stamp, text = lines[position]
                position += 1
                if datetime.fromisoformat(stamp[:19] + "+00:00") < since - timedelta(seconds=1):
                    continue
                yield (f"{stamp} {text}\n" if query.get("timestamps") else f"{text}\n").encode()
            if ended or not query.get("follow"):
                return
            time.sleep(0.01)

    def _page(self, things: list[Thing], query: dict[str, str]) -> Thing:
        """Return a page; its token holds where the next one begins."""
        begin = 0
        if "continue" in query:
            if self.expired:
                self.expired = False
                raise RefusalError(410, "The provided continue parameter is too old")
            begin = json.loads(base64.b64decode(query["continue"]))
        wanted = dict(part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part)
        chosen = [
            thing
            for thing in things
            if not wanted or wanted.items() <= thing["metadata"].get("labels", {}).items()
        ]
        end = begin + min(int(query.get("limit", 500)), self.max_page_size)
        token = base64.b64encode(json.dumps(end).encode()).decode() if end < len(chosen) else ""
        return {"kind": "List", "metadata": {"continue": token}, "items": chosen[begin:end]}

    def _get(self, things: dict[str, Thing], kind: str, name: str) -> Thing:
        if name not in things:
            raise RefusalError(404, f'{kind} "{name}" not found')
        return things[name]

    def _metadata(self, name: str, given: Thing) -> Thing:
        made = {"namespace": NAMESPACE, "uid": str(uuid.uuid4()), "creationTimestamp": self._now()}
        return {**given, "name": name, **made}

    def _now(self) -> str:
        self._clock += timedelta(seconds=1)
        return f"{self._clock:%Y-%m-%dT%H:%M:%SZ}"


def _merge(thing: Thing, changes: Thing) -> Thing:
    """Apply a JSON merge patch (RFC 7386)."""
    for key, value in changes.items():
        if value is None:
            thing.pop(key, None)
        elif isinstance(value, dict) and isinstance(thing.get(key), dict):
            _merge(thing[key], value)
        else:
            thing[key] = value
    return thing


def _status(code: int, message: str) -> Thing:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": REASONS.get(code, "Unknown"),
        "code": code,
    }
