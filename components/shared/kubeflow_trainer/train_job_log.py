"""Follows the log of a TrainJob's first node, through restarts of the node and outages of the API."""

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gradsift.components.shared.kubeflow_trainer.kubernetes_api import KubernetesApi, KubernetesError
from gradsift.components.shared.kubeflow_trainer.train_job_payload import CONTAINER, creation_time, first_node

SILENCE_TIMEOUT_SECONDS = 60.0
"""A connection that brings nothing for so long is recreated, as it may have died unnoticed."""
RECONNECT_SECONDS = 3.0
OVERLAP_SECONDS = 60
"""Lines are asked for again from so long before the last one, as clocks differ; those seen are left out."""


class TrainJobLog:
    """The lines of the first node, in a thread of its own, whose failures only delay them."""

    def __init__(self, api: KubernetesApi, name: str) -> None:
        self.lines: SimpleQueue[str] = SimpleQueue()
        self._api = api
        self._name = name
        self._pod = ""
        self._last = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "TrainJobLog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def finish(self, seconds: float) -> None:
        """Wait for the lines that are still to come from a job that has ended, for so long at most."""
        self._stopped.set()
        self._thread.join(seconds)

    def _follow(self) -> None:
        while True:
            last_time = self._stopped.is_set()
            with suppress(ApiException, HTTPError, KubernetesError, OSError):  # a log decides nothing
                self._follow_once()
            if last_time:
                return
            self._stopped.wait(RECONNECT_SECONDS * random.uniform(0.5, 1))

    def _follow_once(self) -> None:
        pods = self._api.items(
            self._api.core.list_namespaced_pod,
            self._api.namespace,
            label_selector=first_node(self._name),
            patience=0.0,
        )
        pod = max(pods, key=creation_time, default=None)
        if pod is None or pod.get("status", {}).get("phase") == "Pending":
            return
        if pod["metadata"]["uid"] != self._pod:
            self._pod, self._last = pod["metadata"]["uid"], ""
        options: dict[str, Any] = {"since_seconds": _seconds_since(self._last)} if self._last else {}
        answer = self._api.core.read_namespaced_pod_log(
            pod["metadata"]["name"],
            self._api.namespace,
            container=CONTAINER,
            follow=True,
            timestamps=True,
            _preload_content=False,
            _request_timeout=(10, SILENCE_TIMEOUT_SECONDS),
            **options,
        )
        try:
            for line in _whole_lines(answer):
                stamp, _, text = line.partition(" ")
                if _padded(stamp) > self._last:
                    self._last = _padded(stamp)
                    self.lines.put(text)
        finally:
            answer.close()


def _whole_lines(answer: Any) -> Iterator[str]:
    rest = b""
    for chunk in answer.stream(amt=None):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def _padded(stamp: str) -> str:
    """Return a time of a log line, whose trailing zeros are left out, in a form that sorts."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"


def _seconds_since(stamp: str) -> int:
    then = datetime.fromisoformat(stamp.partition(".")[0]).replace(tzinfo=UTC)
    return max(1, int((datetime.now(UTC) - then).total_seconds()) + OVERLAP_SECONDS)
