"""The Kubernetes API as seen from a pod: what is tried again, and what its refusals mean."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gradsift.components.shared.errors import GradsiftError, OutageError
from gradsift.components.shared.process.outages import OUTAGE_TIMEOUT_SECONDS, wait_out

TIMEOUT = (10, 60)
"""Seconds to connect, and to wait for an answer."""
PAGE_SIZE = 100
PASSING = {401, 429, 500, 502, 503, 504}
"""With 401, as the token that is mounted into a pod is renewed there."""

Thing = dict[str, Any]


class KubernetesError(GradsiftError):
    """The Kubernetes API refused a request, or cannot be reached."""


class KubernetesOutageError(KubernetesError, OutageError):
    """The Kubernetes API cannot be reached, or is overloaded."""


class ObjectNotFoundError(KubernetesError):
    """What was asked for does not exist."""


class ConflictError(KubernetesError):
    """Something of that name exists already."""


class ExpiredError(KubernetesError):
    """The listing that a page belongs to is not kept any more."""


class KubernetesApi:
    """The API by the pod's own account, whose requests are repeated while it is down; things are JSON values.

    Attributes:
        core: pods, their logs, events.
        custom: custom resources.
        namespace: the pod's.
    """

    def __init__(self) -> None:
        self._configuration = client.Configuration()
        self._authenticate()
        self._configuration.retries = False
        api_client = client.ApiClient(self._configuration)
        self.core = client.CoreV1Api(api_client)
        self.custom = client.CustomObjectsApi(api_client)
        token_file = Path(config.incluster_config.SERVICE_TOKEN_FILENAME)
        self.namespace = token_file.with_name("namespace").read_text().strip()

    def own_pod(self) -> Thing:
        """Return the pod that this process runs in."""
        name = os.environ.get("KFP_POD_NAME") or os.environ["HOSTNAME"]
        return self.get(self.core.read_namespaced_pod, name, self.namespace)

    def get(self, request: Callable[..., Any], *arguments: Any, **options: Any) -> Thing:
        """Return what a request of the client answers, as JSON values."""
        answer: Thing = json.loads(self.call(request, *arguments, _preload_content=False, **options).data)
        return answer

    def items(self, listing: Callable[..., Any], *arguments: Any, **options: Any) -> list[Thing]:
        """Return everything that a listing holds, page after page, from the start again where it expires."""
        while True:
            try:
                return list(self._pages(listing, *arguments, **options))
            except ExpiredError:
                continue

    def _pages(self, listing: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Thing]:
        following: dict[str, str] = {}
        while True:
            page = self.get(listing, *arguments, limit=PAGE_SIZE, **options, **following)
            yield from page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return
            following = {"_continue": token}

    def call(
        self,
        request: Callable[..., Any],
        *arguments: Any,
        patience: float = OUTAGE_TIMEOUT_SECONDS,
        **options: Any,
    ) -> Any:
        """Send a request, and repeat it for `patience` seconds while the API is down.

        Raises:
            KubernetesError: the API refused the request, or stayed down.
        """

        def send() -> Any:
            self._authenticate()
            try:
                return request(*arguments, _request_timeout=TIMEOUT, **options)
            except (ApiException, HTTPError) as error:
                raise self._explained(error) from None

        return wait_out(KubernetesOutageError, send, patience)

    def _authenticate(self) -> None:
        """Read address and token again."""
        try:
            config.load_incluster_config(self._configuration)
        except config.ConfigException as error:
            raise KubernetesError(
                f"This process has no access to a Kubernetes API ({str(error).rstrip('.')}): expected a pod with a "
                "mounted service account token, or parameter nodes to be 1."
            ) from None

    def _explained(self, error: ApiException | HTTPError) -> KubernetesError:
        where = f"The Kubernetes API at {self._configuration.host}"
        if not isinstance(error, ApiException) or not error.status:
            reason = str(getattr(error, "reason", None) or error).strip()
            return KubernetesOutageError(f"{where} cannot be reached ({reason}).")
        refusals = {404: ObjectNotFoundError, 409: ConflictError, 410: ExpiredError}
        kinds = dict.fromkeys(PASSING, KubernetesOutageError) | refusals
        message = f"{where} answered {error.status}: {_message(error)}."
        return kinds.get(error.status, KubernetesError)(message)


def _message(error: ApiException) -> str:
    try:
        text = json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        text = error.reason
    return " ".join(str(text).split()).rstrip(".")
