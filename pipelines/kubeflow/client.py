"""The Kubeflow Pipelines API: how it is reached, what is tried again, and what its refusals mean."""

import json
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kfp.client import (
    KF_PIPELINES_SA_TOKEN_ENV,
    KF_PIPELINES_SA_TOKEN_PATH,
    ServiceAccountTokenVolumeCredentials,
)
from kfp.client.client import KF_PIPELINES_ENDPOINT_ENV
from kfp_server_api import ApiException
from urllib3.exceptions import HTTPError

from gradsift.components.shared.credentials import LOGIN, with_white_space
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.bounded_reading import read_local_file
from gradsift.pipelines.kubeflow.kfp_compat import QuietClient, hidden_failure

TOKEN = "GRADSIFT_KFP_TOKEN"
"""Environment variable that holds a token; else the token is read from a mounted file, if there is one."""
CA_FILE = "SSL_CERT_FILE"
"""OpenSSL's environment variable for a file of authorities to trust; without it those of `certifi` are trusted."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where Kubernetes mounts the namespace of a pod."""
RETRY_TIMEOUT = 60.0
"""Seconds that a request is tried for while the API is down."""
FIRST_RETRY_TIMEOUT = 15.0
"""The same for the first request, as the address may be wrong."""
MAX_DELAY = 20.0
"""Seconds between two tries, at most."""
REQUEST_TIMEOUT = (10, 60)
"""Seconds to connect, and to wait for an answer."""
PAGE_SIZE = 100
MAX_TOKEN_BYTES = 2**20
PASSING = {429, 500, 502, 503, 504}


class KubeflowDownError(InputError):
    """The API cannot be reached, or does not answer as it should."""


class KubeflowConflictError(InputError):
    """Something of that name exists already."""


class KubeflowNotFoundError(InputError):
    """What was asked for does not exist."""


class Kubeflow:
    """A client of kfp whose requests are repeated while the API is down, and fail with one sentence.

    Attributes:
        client: the client; `client.runs`, `client.experiments` and so on hold the requests.
        namespace: the user's namespace; empty where Kubeflow has one user.
        release: release of the server, as it names it itself; empty where it does not.
    """

    def __init__(self, client: QuietClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.release = ""
        self.host = client.configuration.host

    def call(
        self,
        request: Callable[..., Any],
        *arguments: Any,
        retry_timeout: float = RETRY_TIMEOUT,
        **options: Any,
    ) -> Any:
        """Send a request, again and again for `retry_timeout` seconds while the API is down.

        Raises:
            InputError: the API refused the request, or stayed down.
        """
        deadline = time.monotonic() + retry_timeout
        delay = 0.5
        while True:
            try:
                return request(*arguments, _request_timeout=REQUEST_TIMEOUT, **options)
            except (ApiException, HTTPError) as error:
                failure = error
            except (AttributeError, UnicodeDecodeError) as error:
                if (hidden := hidden_failure(error)) is None:
                    raise
                failure = hidden
            if not _passes(failure) or time.monotonic() + delay > deadline:
                raise self._explained(failure) from None
            time.sleep(delay * random.uniform(0.5, 1))
            delay = min(2 * delay, MAX_DELAY)

    def items(self, listing: Callable[..., Any], field: str, **options: Any) -> Iterator[Any]:
        """Yield what a listing holds under `field`, page after page."""
        token = ""
        while True:
            page = self.call(listing, page_token=token, page_size=PAGE_SIZE, **options)
            yield from getattr(page, field) or []
            token = page.next_page_token
            if not token:
                return

    def named(self, listing: Callable[..., Any], field: str, name: str, **options: Any) -> Any | None:
        """Return the one of that name in a listing, or None."""
        wanted = api_filter(operation="EQUALS", key="display_name", stringValue=name)
        return next(self.items(listing, field, filter=wanted, **options), None)

    def url(self, path: str) -> str:
        """Return the address of a page of the Kubeflow Pipelines UI, such as `runs/details/<id>`."""
        return f"{self.client.ui_address}/#/{path}"

    def _explained(self, error: ApiException | HTTPError) -> InputError:
        where = f"Kubeflow Pipelines at {self.host}"
        if not isinstance(error, ApiException):
            reason = str(getattr(error, "reason", None) or error).strip()
            return KubeflowDownError(f"{where} cannot be reached ({reason}): expected the address in --host.")
        if not error.status:
            reason = " ".join(str(error.reason).split())
            return KubeflowDownError(
                f"{where} cannot be reached by TLS ({reason}): expected http:// in --host if it has no TLS, else a "
                f"valid certificate for this address, from an authority of `certifi` or of the file in {CA_FILE}."
            )
        message = f"{where} answered {error.status}: {_message(error)}."
        if error.status == 401:
            return InputError(
                f"{where} refused the token (401), which is missing, wrong or has expired: expected a fresh one in "
                f"{TOKEN}, or in a file that {KF_PIPELINES_SA_TOKEN_ENV} names."
            )
        if 300 <= error.status < 400:
            return KubeflowDownError(f"{where} asks to log in ({error.status}): expected a token in {TOKEN}.")
        if error.status in PASSING:
            return KubeflowDownError(message)
        kinds = {404: KubeflowNotFoundError, 409: KubeflowConflictError}
        return kinds.get(error.status, InputError)(message)


def open_kubeflow(host: str | None, namespace: str | None) -> Kubeflow:
    """Return the API, after a first request to it.

    Args:
        host: address of the API; None means `KF_PIPELINES_ENDPOINT`, else the cluster that this runs in, else the
            one that `kubectl` talks to.
        namespace: the user's namespace; None means that of the pod that this runs in, where Kubeflow has many
            users.

    Raises:
        InputError: the address has no scheme or holds a password, the token is none by its characters, the API
            cannot be reached, refused the token, or needs a namespace.
    """
    _check_address(host or os.environ.get(KF_PIPELINES_ENDPOINT_ENV))
    if TOKEN in with_white_space():
        raise InputError(f"{TOKEN} begins or ends with white space: expected the token alone.")
    _check_token(os.environ.get(TOKEN, ""), TOKEN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = QuietClient(
            host,
            existing_token=os.environ.get(TOKEN),
            credentials=_mounted_token(),
            ssl_ca_cert=os.environ.get(CA_FILE),
        )
    kubeflow = Kubeflow(client, namespace or client.get_user_namespace())
    answer = kubeflow.call(
        client.healthzs.healthz_service_get_healthz, retry_timeout=FIRST_RETRY_TIMEOUT, _preload_content=False
    )
    try:
        health = json.loads(answer.data)
        many_users, kubeflow.release = health.get("multi_user", False), health.get("tag_name") or ""
    except (ValueError, AttributeError):
        raise KubeflowDownError(
            f"The address {kubeflow.host} answers, but not as Kubeflow Pipelines does: expected the address of its "
            "API, and a token where it asks to log in."
        ) from None
    if many_users and not kubeflow.namespace:
        kubeflow.namespace = _namespace_of_the_pod()
    return kubeflow


def api_filter(**predicate: Any) -> str:
    """Return the filter of a listing with one predicate: the API wants it quoted, on top of how a query is."""
    return quote(json.dumps({"predicates": [predicate]}))


def _check_address(host: str | None) -> None:
    if host and LOGIN.search(host):
        raise InputError(
            f"The address {host} of Kubeflow Pipelines holds a user name or password: expected one without them, "
            f"and a token in {TOKEN} where it asks to log in."
        )
    if host and not host.startswith(("http://", "https://")):
        raise InputError(
            f"The address {host!r} of Kubeflow Pipelines has no scheme: expected http:// or https:// before it, in "
            f"--host or {KF_PIPELINES_ENDPOINT_ENV}."
        )


def _mounted_token() -> ServiceAccountTokenVolumeCredentials | None:
    """Return what reads the token from its file before each request, as it is renewed there."""
    path = Path(os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH)
    if path.is_file():
        content = read_local_file(path, MAX_TOKEN_BYTES)
        _check_token(content.decode(errors="replace").strip(), f"The file {path}")
        return ServiceAccountTokenVolumeCredentials(str(path))
    if KF_PIPELINES_SA_TOKEN_ENV in os.environ:
        raise InputError(f"{KF_PIPELINES_SA_TOKEN_ENV} is {str(path)!r}: expected a file that holds a token.")
    return None


def _check_token(token: str, where: str) -> None:
    if not token.isascii() or not token.isprintable():
        raise InputError(f"{where} holds characters that no token has: expected one line of ASCII.")


def _namespace_of_the_pod() -> str:
    try:
        return NAMESPACE_FILE.read_text().strip()
    except OSError:
        raise InputError("This Kubeflow has many users: expected your namespace in --namespace.") from None


def _passes(error: ApiException | HTTPError) -> bool:
    return not isinstance(error, ApiException) or not error.status or error.status in PASSING


def _message(error: ApiException) -> str:
    """Return what the API says itself: a gRPC status, or the upload endpoints' own form."""
    try:
        body = json.loads(error.body)
        text = body.get("message") or body.get("error_message")
    except (ValueError, TypeError, AttributeError):
        text = error.reason
    return " ".join(str(text).split()).rstrip(".")
