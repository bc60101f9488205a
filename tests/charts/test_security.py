"""Nothing that the chart renders has more rights than it needs, and no credential lies outside a Secret."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.charts.rendering import RUNTIMES, VALUE_SETS, render_of, values_of

RESTRICTED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
every_value_set = pytest.mark.parametrize("value_set", VALUE_SETS)


@every_value_set
def test_every_pod_keeps_to_pod_security_restricted(value_set: str) -> None:
    pods = list(render_of(value_set).pods())
    assert len(pods) == {"default": 2}.get(value_set, 5)
    for name, pod in pods:
        spec = pod["spec"]
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostAliases"}, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false", name
        for volume in spec["volumes"]:
            assert volume.keys() - {"name"} <= RESTRICTED_VOLUMES, name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert not [port for port in container.get("ports", []) if "hostPort" in port], name
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name


@pytest.mark.parametrize(("value_set", "users"), [("everything", {1000, 999}), ("existing_secrets", {None})])
def test_the_platform_may_choose_the_user(value_set: str, users: set[int | None]) -> None:
    contexts = [pod["spec"]["securityContext"] for _, pod in render_of(value_set).pods()]
    assert {context.get("runAsUser") for context in contexts} == users
    assert {context.get("fsGroup") for context in contexts} == users


@every_value_set
def test_pods_that_stay_have_probes_and_all_but_training_have_limits(value_set: str) -> None:
    for name, pod in render_of(value_set).pods():
        (container,) = pod["spec"]["containers"]
        if name.startswith(("Deployment", "StatefulSet")):
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name
        if not name.startswith(RUNTIMES):
            assert "memory" in container["resources"]["limits"], name
            assert {"cpu", "memory"} == container["resources"]["requests"].keys(), name


@every_value_set
def test_rights_are_those_needed(value_set: str) -> None:
    rendered = render_of(value_set)
    rights = {
        name: {
            (f"{group}/{resource}", verb)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        for name, role in rendered.of_kind("Role").items()
    }
    reading = {
        (f"/{kind}", verb) for kind in ("pods", "pods/log", "events") for verb in ("get", "list", "watch")
    }
    launching = {
        ("trainer.kubeflow.org/trainjobs", verb)
        for verb in ("create", "get", "list", "watch", "patch", "delete")
    }
    assert rights["gradsift-launcher"] == reading | launching
    scheduling = rights.get("gradsift-schedules", set())
    assert {right.split("/")[0] for right, _ in scheduling} <= {"pipelines.kubeflow.org"}
    assert not rendered.of_kind("ClusterRole") | rendered.of_kind("ClusterRoleBinding")


@every_value_set
def test_the_trainer_has_no_rights_and_no_token(value_set: str) -> None:
    rendered = render_of(value_set)
    bound = {
        subject["name"] for found in rendered.of_kind("RoleBinding").values() for subject in found["subjects"]
    }
    assert bound <= {"gradsift-launcher", "gradsift-schedules", "default-editor"}
    assert rendered.of_kind("ServiceAccount")["gradsift-trainer"]["automountServiceAccountToken"] is False


def test_runs_get_the_roles_that_the_values_name() -> None:
    bindings = render_of("everything").of_kind("RoleBinding")
    assert bindings["gradsift-launcher-kubeflow-edit"]["roleRef"]["kind"] == "ClusterRole"
    assert [subject["name"] for subject in bindings["gradsift-launcher"]["subjects"]] == [
        "gradsift-launcher",
        "default-editor",
    ]


@pytest.mark.parametrize("value_set", ["everything", "existing_secrets"])
def test_credentials_are_rendered_in_secrets_alone(value_set: str) -> None:
    rendered = render_of(value_set)
    planted = [text for text in _texts(values_of(value_set)) if text.startswith("PLANTED")]
    assert len(planted) == 5
    outside = [str(found) for found in rendered.objects if found["kind"] != "Secret"]
    secrets = [text for found in rendered.of_kind("Secret").values() for text in found["data"].values()]
    for credential in planted:
        encoded = base64.b64encode(credential.encode()).decode()
        assert not [text for text in [*outside, rendered.notes] if credential in text or encoded in text]
        assert secrets.count(encoded) == (value_set == "everything")


def test_without_credentials_there_is_no_secret() -> None:
    assert not render_of("default").of_kind("Secret")


def test_network_policies_select_pods_of_ours_and_close_the_database() -> None:
    rendered = render_of("everything")
    policies = rendered.of_kind("NetworkPolicy")
    components = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for _, pod in rendered.pods()}
    selected: set[str] = set()
    for policy in policies.values():
        selector = policy["spec"]["podSelector"]
        (chosen,) = selector.get("matchExpressions", [{"values": [selector["matchLabels"].get(COMPONENT)]}])
        selected |= set(chosen["values"])
    assert selected == components
    database = policies["gradsift-postgresql"]["spec"]
    (source,) = database["ingress"][0]["from"]
    assert source["podSelector"]["matchLabels"][COMPONENT] == "mlflow"
    assert database["policyTypes"] == ["Ingress", "Egress"]
    assert database["egress"] == []
    assert not render_of("default").of_kind("NetworkPolicy")


COMPONENT = "app.kubernetes.io/component"


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for child in node.values():
            yield from _texts(child)
    elif isinstance(node, list):
        for child in node:
            yield from _texts(child)
    elif isinstance(node, str):
        yield node
