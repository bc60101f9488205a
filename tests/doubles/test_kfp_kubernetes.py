"""What kfp-kubernetes gives to a pod, by the double of KFP's driver."""

from collections.abc import Callable
from typing import Any

import pytest
from doubles.kfp_driver import resolve
from doubles.kfp_error import DriverError
from doubles.kfp_pod import Retry
from kfp import dsl, kubernetes

Compile = Callable[[Any], list[dict[str, Any]]]


@dsl.component(base_image="image", install_kfp_package=False)
def step() -> None:
    pass


@dsl.component(base_image="image", install_kfp_package=False)
def name_secret() -> str:
    return ""


def test_variables_come_from_secrets_config_maps_and_the_pod(compiled: Compile) -> None:
    @dsl.pipeline(name="variables")
    def pipeline(settings: str = "settings") -> None:
        task = step().set_env_variable("A", "1")
        kubernetes.use_secret_as_env(task, "fixed", {"key": "B"})
        kubernetes.use_secret_as_env(task, name_secret().output, {"key": "C"}, optional=True)
        kubernetes.use_config_map_as_env(task, settings, {"key": "D"}, optional=True)
        kubernetes.use_field_path_as_env(task, "E", "metadata.name")

    pod = resolve(compiled(pipeline), {"settings": "own"}, {"name-secret": {"Output": "found"}})[-1]
    secret, config_map = "secretKeyRef", "configMapKeyRef"
    assert list(pod.environment.values()) == [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {secret: {"name": "fixed", "key": "key", "optional": False}}},
        {"name": "C", "valueFrom": {secret: {"name": "found", "key": "key", "optional": True}}},
        {"name": "D", "valueFrom": {config_map: {"name": "own", "key": "key", "optional": True}}},
        {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]


def test_names_are_texts_that_are_not_empty(compiled: Compile) -> None:
    @dsl.pipeline(name="names")
    def pipeline(text: str = "a", number: int = 1) -> None:
        kubernetes.use_secret_as_env(step(), text, {"key": "A"})
        kubernetes.use_secret_as_env(step(), number, {"key": "A"})

    documents = compiled(pipeline)
    with pytest.raises(DriverError, match=r"Task `step-2`.*not empty is expected, not 1"):
        resolve(documents)
    with pytest.raises(DriverError, match=r"Task `step`.*not empty is expected, not ''"):
        resolve(documents, {"text": ""})


def test_a_secret_named_by_an_optional_parameter_is_left_out_without_it(compiled: Compile) -> None:
    @dsl.pipeline(name="optional")
    def pipeline(secret: str = None) -> None:  # noqa: RUF013
        kubernetes.use_secret_as_env(step(), secret, {"key": "A"})

    documents = compiled(pipeline)
    assert resolve(documents)[0].environment == {}
    assert resolve(documents, {"secret": "a"})[0].environment.keys() == {"A"}


def test_volumes_are_mounted(compiled: Compile) -> None:
    @dsl.pipeline(name="volumes")
    def pipeline(claim: str = "models") -> None:
        task = step()
        kubernetes.mount_pvc(task, pvc_name=claim, mount_path="/models", sub_path="a")
        kubernetes.use_secret_as_volume(task, "keys", "/keys", optional=True)
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit="1Gi")

    [pod] = resolve(compiled(pipeline), {"claim": "own"})
    assert pod.patch["volumes"] == [
        {"name": "own", "persistentVolumeClaim": {"claimName": "own"}},
        {"name": "keys", "secret": {"secretName": "keys", "optional": True}},
        {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ]
    assert pod.container["volumeMounts"] == [
        {"name": "own", "mountPath": "/models", "subPath": "a"},
        {"name": "keys", "mountPath": "/keys"},
        {"name": "dshm", "mountPath": "/dev/shm"},
    ]


def test_placement_is_read_as_a_mapping_and_a_list(compiled: Compile) -> None:
    @dsl.pipeline(name="placement")
    def pipeline(selector: dict = {}, taints: list = []) -> None:  # noqa: B006
        task = step()
        kubernetes.add_node_selector_json(task, selector)
        kubernetes.add_toleration(task, key="fixed", operator="Exists")
        kubernetes.add_toleration_json(task, taints)

    documents = compiled(pipeline)
    [pod] = resolve(documents, {"selector": {"pool": "gpu"}, "taints": [{"key": "a"}, {"key": "b"}]})
    assert pod.patch["nodeSelector"] == {"pool": "gpu"}
    assert pod.patch["tolerations"] == [{"key": "fixed", "operator": "Exists"}, {"key": "a"}, {"key": "b"}]
    assert "nodeSelector" not in resolve(documents)[0].patch


def test_a_selector_that_is_a_text_is_dropped_and_a_toleration_fails_the_task(compiled: Compile) -> None:
    @dsl.pipeline(name="texts")
    def selects(selector: str = '{"pool": "gpu"}') -> None:
        kubernetes.add_node_selector_json(step(), selector)

    @dsl.pipeline(name="texts")
    def tolerates(taints: str = "[]") -> None:
        kubernetes.add_toleration_json(step(), taints)

    assert "nodeSelector" not in resolve(compiled(selects))[0].patch
    with pytest.raises(DriverError, match="a toleration is a mapping or a list"):
        resolve(compiled(tolerates))


def test_labels_time_limits_and_pull_policies_are_constants(compiled: Compile) -> None:
    @dsl.pipeline(name="constants")
    def pipeline() -> None:
        task = step()
        kubernetes.add_pod_label(task, "queue", "a")
        kubernetes.add_pod_annotation(task, "note", "b")
        kubernetes.set_timeout(task, 60)
        kubernetes.set_image_pull_policy(task, "Always")
        kubernetes.set_image_pull_secrets(task, ["registry"])

    [pod] = resolve(compiled(pipeline))
    assert (pod.labels, pod.annotations) == ({"queue": "a"}, {"note": "b"})
    assert pod.patch["activeDeadlineSeconds"] == 60
    assert pod.container["imagePullPolicy"] == "Always"
    assert pod.patch["imagePullSecrets"] == [{"name": "registry"}]


def test_a_pod_is_tried_again_on_errors_only(compiled: Compile) -> None:
    @dsl.pipeline(name="retries")
    def pipeline() -> None:
        step()
        step().set_retry(5, backoff_duration="30s", backoff_factor=3, backoff_max_duration="600s")

    first, second = resolve(compiled(pipeline))
    assert first.retry == Retry(limit=2, policy="OnError")
    assert second.retry == Retry(5, "OnError", backoff_seconds=30, backoff_factor=3, backoff_max_seconds=600)


def test_the_settings_of_tasks_in_loops_come_from_their_graph(compiled: Compile) -> None:
    @dsl.pipeline(name="loops")
    def pipeline(secret: str = "a") -> None:
        with dsl.ParallelFor(["x", "y"]):
            kubernetes.use_secret_as_env(step(), secret, {"key": "A"})

    pods = resolve(compiled(pipeline), {"secret": "b"})
    assert [named(pod) for pod in pods] == ["b", "b"]


def named(pod: Any) -> str:
    return pod.environment["A"]["valueFrom"]["secretKeyRef"]["name"]


def test_what_is_left_out_is_refused(compiled: Compile) -> None:
    @dsl.pipeline(name="unknown")
    def pipeline() -> None:
        kubernetes.set_security_context(step(), run_as_user=1000)

    with pytest.raises(DriverError, match="Task `step`: not part of the double: securityContext"):
        resolve(compiled(pipeline))
