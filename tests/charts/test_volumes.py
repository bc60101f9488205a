"""Helm refuses to change the size of a volume where Kubernetes would, and says what to do instead."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import helm_python
import pytest

from tests.charts.rendering import CHART, NAMESPACE, RELEASE, render, values_of

CLAIM = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/gradsift-model-cache"
STATEFUL_SET = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/gradsift-postgresql"
RESOURCES = {
    "/api/v1": {"name": "persistentvolumeclaims", "kind": "PersistentVolumeClaim"},
    "/apis/apps/v1": {"name": "statefulsets", "kind": "StatefulSet"},
}
Upgrade = Callable[[str, str], dict[str, str]]


class KubernetesApi(BaseHTTPRequestHandler):
    """What Helm asks an API server for: its resources, and objects by their paths."""

    def __init__(self, objects: dict[str, dict[str, Any]], *arguments: Any) -> None:
        self.objects = objects
        super().__init__(*arguments)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer: dict[str, Any] | None
        if path in RESOURCES:
            resource = {**RESOURCES[path], "singularName": "", "namespaced": True, "verbs": ["get"]}
            group = path.removeprefix("/apis/").removeprefix("/api/")
            answer = {"kind": "APIResourceList", "groupVersion": group, "resources": [resource]}
        else:
            answer = self.objects.get(path)
        self.send_response_only(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        missing = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": "NotFound",
            "code": 404,
        }
        self.wfile.write(json.dumps(answer or missing).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def objects() -> dict[str, dict[str, Any]]:
    """Return what exists in the cluster, by path; empty at first."""
    return {}


@pytest.fixture
def upgrade(objects: dict[str, dict[str, Any]]) -> Iterator[Upgrade]:
    """Return what renders an upgrade with sizes of the model cache and of PostgreSQL against that cluster."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(KubernetesApi, objects)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with (
            helm_python.Config(kube_apiserver=address, namespace=NAMESPACE) as config,
            helm_python.Chart.load(CHART) as chart,
        ):

            def rendered(model_cache: str, postgresql: str) -> dict[str, str]:
                values = values_of("everything")
                values["modelCache"]["size"] = model_cache
                values["mlflow"]["postgresql"]["size"] = postgresql
                return config.render(chart, values, name=RELEASE, namespace=NAMESPACE, is_upgrade=True)

            yield rendered
        server.shutdown()


def claim(size: str, phase: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "gradsift-model-cache", "namespace": NAMESPACE},
        "spec": {"resources": {"requests": {"storage": size}}},
        "status": {"phase": phase},
    }


def stateful_set(size: str) -> dict[str, Any]:
    template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "gradsift-postgresql", "namespace": NAMESPACE},
        "spec": {"volumeClaimTemplates": [template]},
    }


def test_a_first_install_may_have_any_size(upgrade: Upgrade) -> None:
    assert "storage: 1Ti" in upgrade("1Ti", "10Gi")["gradsift/templates/model-cache.yaml"]


@pytest.mark.parametrize(
    ("size", "phase", "wanted"),
    [
        ("100Gi", "Bound", "200Gi"),
        ("100Gi", "Bound", "0.1Ti"),
        ("100Gi", "Pending", "102400Mi"),
        ("1G", "Bound", "1Gi"),
    ],
)
def test_a_model_cache_may_grow_and_its_size_be_written_otherwise(
    objects: dict[str, Any], upgrade: Upgrade, size: str, phase: str, wanted: str
) -> None:
    objects[CLAIM] = claim(size, phase)
    assert f"storage: {wanted}" in upgrade(wanted, "10Gi")["gradsift/templates/model-cache.yaml"]


@pytest.mark.parametrize(
    ("size", "phase", "wanted", "message"),
    [
        (
            "100Gi",
            "Pending",
            "200Gi",
            "claim gradsift-model-cache of 100Gi has no volume yet and cannot be resized",
        ),
        ("100Gi", "Pending", "50Gi", "cannot become smaller: expected 100Gi or more"),
        ("1Ti", "Bound", "1023Gi", "cannot become smaller: expected 1Ti or more"),
        ("1Ki", "Bound", "1k", "cannot become smaller: expected 1Ki or more"),
    ],
)
def test_a_model_cache_that_cannot_be_resized(
    objects: dict[str, Any], upgrade: Upgrade, size: str, phase: str, wanted: str, message: str
) -> None:
    objects[CLAIM] = claim(size, phase)
    with pytest.raises(helm_python.HelmRenderError, match=f"modelCache.size is {wanted}, .*{message}"):
        upgrade(wanted, "10Gi")


@pytest.mark.parametrize("wanted", ["20Gi", "5Gi", "10G"])
def test_the_database_cannot_be_resized(objects: dict[str, Any], upgrade: Upgrade, wanted: str) -> None:
    objects[STATEFUL_SET] = stateful_set("10Gi")
    message = f"postgresql.size is {wanted}, but the StatefulSet gradsift-postgresql .* 10Gi.*Resize a volume"
    with pytest.raises(helm_python.HelmRenderError, match=message):
        upgrade("100Gi", wanted)


@pytest.mark.parametrize("wanted", ["10Gi", "10240Mi", "10.0Gi"])
def test_the_database_may_keep_its_size(objects: dict[str, Any], upgrade: Upgrade, wanted: str) -> None:
    objects[STATEFUL_SET] = stateful_set("10Gi")
    assert f"storage: {wanted}" in upgrade("100Gi", wanted)["gradsift/templates/postgresql.yaml"]


def test_the_notes_say_where_there_are_volumes() -> None:
    assert "Resize a volume" in render({"modelCache": {"enabled": True}}).notes
    assert "Resize a volume" not in render().notes
    assert "### Resize a volume" in (CHART / "README.md").read_text()
