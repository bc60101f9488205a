"""Why a TrainJob failed, as a sentence and a report: its condition, pods, events, and every rank's last lines."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradsift.components.shared.credentials import redacted
from gradsift.components.shared.errors import (
    BatchMemoryError,
    GpuMemoryError,
    GradsiftError,
    InputError,
    StorageError,
    TrainingError,
)
from gradsift.components.shared.kubeflow_trainer.kubernetes_api import KubernetesApi, KubernetesError, Thing
from gradsift.components.shared.kubeflow_trainer.node import FAILURES, LOGS
from gradsift.components.shared.kubeflow_trainer.train_job_payload import CONTAINER, rank_of
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.storage import Storage
from gradsift.components.shared.training.processes import error_of, last_error

REPORT = "failure.md"
LAST_LINES = 50
"""Lines of each rank in the report."""
DISRUPTIONS = {"Evicted", "Preempted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated"}
"""Reasons of a pod's end, or of an event, that lie outside the training."""


@dataclass(frozen=True)
class Failure:
    """What is known of a failed TrainJob.

    Attributes:
        name: the TrainJob's name.
        reason: the reason and message of its condition.
        pods: its pods as they were last seen.
        events: events of the TrainJob and its pods, oldest first.
        logs: the end of each node's log, node -> text.
        reported: what nodes reported of their failure themselves, the first one to fail first.
    """

    name: str
    reason: str
    pods: Sequence[Thing]
    events: Sequence[Thing]
    logs: Mapping[int, str]
    reported: Sequence[Thing]

    @property
    def disrupted(self) -> bool:
        """Whether the cluster took a node away, rather than that the training failed."""
        names = {pod["metadata"]["name"] for pod in self.pods}
        by_events = any(
            event.get("reason") in DISRUPTIONS and event["involvedObject"]["name"] in names
            for event in self.events
        )
        wrong_input = any(isinstance(error, InputError) for error in self._errors)
        return not wrong_input and (by_events or any(_was_disrupted(pod) for pod in self.pods))

    def error(self, report_uri: str) -> GradsiftError:
        """Return the error that the step ends with: one sentence with the cause that was found."""
        for kind in (InputError, GpuMemoryError, BatchMemoryError):
            for error in self._errors:
                if isinstance(error, kind):
                    return error
        cause = next((str(error) for error in self._errors), None)
        if cause is None:
            cause = self._cause_by_pods() or self.reason
        return TrainingError(
            f"TrainJob {self.name} failed: {cause.rstrip('.')} (events, exit codes and logs: {report_uri})."
        )

    @property
    def _errors(self) -> list[GradsiftError]:
        return [error_of(each) for each in self.reported]

    def _cause_by_pods(self) -> str | None:
        """Return what the node that failed first ended with; the others lost a peer."""
        for pod in sorted(self.pods, key=lambda pod: (_ended(pod) or {}).get("finishedAt") or ""):
            ended = _ended(pod)
            if ended is None or ended["exitCode"] == 0:
                continue
            reason = ended.get("reason", "unknown")
            what = f"node {rank_of(pod)} ended with exit code {ended['exitCode']} ({reason})"
            log = self.logs.get(rank_of(pod), "")
            return f"{what}: {last_error(log)}" if log.strip() else what
        return None

    def report(self) -> str:
        """Return the whole of it as Markdown."""
        parts = [f"# TrainJob {self.name} failed", self.reason, "## Pods"]
        parts += ["\n".join(_pod_line(pod) for pod in self.pods) or "None was seen."]
        parts += ["## Events", "\n".join(_event_line(event) for event in self.events) or "None is kept."]
        for node, log in sorted(self.logs.items()):
            for rank, lines in _by_rank(log).items():
                head = f"## Node {node}, {rank}: last lines" if rank else f"## Node {node}: last lines"
                parts += [head, "```text\n" + "\n".join(lines[-LAST_LINES:]) + "\n```"]
        return "\n\n".join(parts) + "\n"


def collect_failure(
    api: KubernetesApi, storage: Storage, name: str, reason: str, pods: Sequence[Thing]
) -> Failure:
    """Gather what is known of a failed TrainJob; what cannot be got is left out.

    Args:
        api: the cluster.
        storage: where nodes leave what they know.
        name: the TrainJob's name.
        reason: what its condition says.
        pods: its pods as they were last seen.
    """
    logs = {}
    for pod in pods:
        log = _log_of(api, storage, pod)
        if log:
            logs[rank_of(pod)] = log
    reported = [json.loads(storage.read(key)) for key in storage.keys(f"{FAILURES}/")]
    return Failure(
        name, reason, pods, _events(api, name, pods), logs, sorted(reported, key=lambda each: each["time"])
    )


def write_report(failure: Failure, storage: Storage) -> str:
    """Keep the report beside what nodes left, print it, and return its address."""
    report = redacted(failure.report())
    print(report, flush=True)
    storage.write(REPORT, report.encode())
    return join_uri(storage.uri, REPORT)


def _events(api: KubernetesApi, name: str, pods: Sequence[Thing]) -> list[Thing]:
    names = {name, *(pod["metadata"]["name"] for pod in pods)}
    try:
        events = api.items(api.core.list_namespaced_event, api.namespace, patience=60.0)
    except KubernetesError:
        return []
    ours = [event for event in events if event["involvedObject"].get("name") in names]
    return sorted(ours, key=lambda event: event.get("lastTimestamp") or "")


def _log_of(api: KubernetesApi, storage: Storage, pod: Thing) -> str:
    """Return what the node left of its log, else what the cluster still has."""
    try:
        return storage.read(f"{LOGS}/{rank_of(pod)}.log").decode(errors="replace")
    except StorageError:
        pass
    try:
        answer = api.call(
            api.core.read_namespaced_pod_log,
            pod["metadata"]["name"],
            api.namespace,
            container=CONTAINER,
            tail_lines=1000,
            patience=60.0,
            _preload_content=False,
        )
        return str(answer.data.decode(errors="replace"))
    except KubernetesError:
        return ""


def _by_rank(log: str) -> dict[str, list[str]]:
    """Return the lines of each rank, and under an empty name those of none."""
    ranks = defaultdict(list)
    for line in log.splitlines():
        match = re.match(r"\[(rank\d+)\]: ", line)
        ranks[match[1] if match else ""].append(line)
    return dict(sorted(ranks.items()))


def _ended(pod: Thing) -> Thing | None:
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == CONTAINER:
            ended: Thing | None = status.get("state", {}).get("terminated")
            return ended
    return None


def _was_disrupted(pod: Thing) -> bool:
    status = pod.get("status", {})
    conditions = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
    return status.get("reason") in DISRUPTIONS or "DisruptionTarget" in conditions


def _pod_line(pod: Thing) -> str:
    status, ended = pod.get("status", {}), _ended(pod)
    facts = [status.get("phase", "unknown"), status.get("reason", ""), status.get("message", "")]
    if ended:
        facts.append(f"exit code {ended.get('exitCode')} {ended.get('reason', '')}".strip())
    where = pod["spec"].get("nodeName", "no node")
    return f"- node {rank_of(pod)}, {pod['metadata']['name']} on {where}: {', '.join(filter(None, facts))}"


def _event_line(event: Thing) -> str:
    return (
        f"- {event.get('lastTimestamp')} {event['involvedObject']['name']} {event.get('reason')}: "
        f"{event.get('message', '').strip()}"
    )
