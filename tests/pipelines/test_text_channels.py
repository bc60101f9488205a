"""Channels that are no texts where KFP's driver reads texts."""

from collections.abc import Callable
from typing import Any

import pytest
from kfp import dsl, kubernetes

from gradsift.components.shared.errors import InputError
from gradsift.pipelines.kubeflow import objects
from gradsift.pipelines.text_channels import non_text_channels

Compile = Callable[[Any], list[dict[str, Any]]]
GPU = "nvidia.com/gpu"


@dsl.component(base_image="image", install_kfp_package=False)
def step(number: int = 0) -> None:
    pass


@dsl.component(base_image="image", install_kfp_package=False)
def size() -> int:
    return 1


@dsl.component(base_image="image", install_kfp_package=False)
def name() -> str:
    return ""


def test_texts_and_constants_are_right_and_json_is_for_placement(compiled: Compile) -> None:
    @dsl.pipeline(name="right")
    def pipeline(gpus: str = "1", number: int = 1, selector: dict = {}, taints: list = []) -> None:  # noqa: B006
        task = step(number=number).set_accelerator_type(GPU).set_accelerator_limit(gpus)
        task.set_cpu_request("1").set_memory_limit(name().output)
        kubernetes.use_secret_as_env(task, gpus, {"a": "A"})
        kubernetes.add_node_selector_json(task, selector)
        kubernetes.add_toleration_json(task, taints)
        step().set_accelerator_type(GPU).set_accelerator_limit(2)

    assert non_text_channels(compiled(pipeline)) == []


def test_a_pipeline_without_settings_for_kubernetes_is_read(compiled: Compile) -> None:
    @dsl.pipeline(name="plain")
    def pipeline(gpus: int = 1) -> None:
        step().set_accelerator_type(GPU).set_accelerator_limit(gpus)

    [sentence] = non_text_channels(compiled(pipeline))
    assert sentence == (
        "Task `step`: the accelerator limit comes from `gpus`, a NUMBER_INTEGER, "
        "and KFP's driver reads a STRING only."
    )


def test_every_field_that_is_read_as_a_text_is_looked_at(compiled: Compile) -> None:
    @dsl.pipeline(name="wrong")
    def pipeline(number: int = 1, ratio: float = 0.5, words: list = []) -> None:  # noqa: B006
        task = step().set_cpu_request(number).set_cpu_limit(ratio).set_memory_request(number)
        task.set_memory_limit(number).set_accelerator_type(number).set_accelerator_limit(number)
        task.set_container_image(number)
        kubernetes.use_secret_as_env(task, number, {"a": "A"})
        kubernetes.use_secret_as_volume(task, number, "/a")
        kubernetes.use_config_map_as_env(task, words, {"a": "B"})
        kubernetes.use_config_map_as_volume(task, number, "/b")
        kubernetes.set_image_pull_secrets(task, [number])
        kubernetes.mount_pvc(task, number, "/c")

    found = non_text_channels(compiled(pipeline))
    fields = [sentence.partition("the ")[2].partition(" comes")[0] for sentence in found]
    assert fields == [
        "CPU request",
        "CPU limit",
        "memory request",
        "memory limit",
        "accelerator type",
        "accelerator limit",
        "image",
        "Secret's name",
        "Secret's name",
        "image pull Secret's name",
        "ConfigMap's name",
        "ConfigMap's name",
        "volume claim's name",
    ]
    assert "`ratio`, a NUMBER_DOUBLE," in found[1]
    assert "`words`, a LIST," in found[10]


def test_channels_are_followed_through_conditions_loops_and_pipelines(compiled: Compile) -> None:
    @dsl.pipeline(name="inner")
    def inner(gpus: int) -> None:
        step().set_accelerator_type(GPU).set_accelerator_limit(gpus)

    @dsl.pipeline(name="outer")
    def outer(gpus: int = 1) -> None:
        measured = size()
        inner(gpus=gpus)
        with dsl.If(measured.output == 1):
            step().set_accelerator_type(GPU).set_accelerator_limit(measured.output)
        with dsl.ParallelFor([1, 2]) as item:
            step().set_accelerator_type(GPU).set_accelerator_limit(item)

    found = non_text_channels(compiled(outer))
    assert len(found) == 3
    assert all("the accelerator limit" in sentence for sentence in found)


def test_a_pipeline_whose_gpus_would_be_dropped_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    @dsl.pipeline(name="numbers")
    def pipeline(gpus: int = 1) -> None:
        step().set_accelerator_type(GPU).set_accelerator_limit(gpus)

    monkeypatch.setattr(objects, "gradsift_pipeline", pipeline)
    with pytest.raises(
        InputError, match=r"^Task `step`: the accelerator limit comes from `gpus`, a NUMBER_INTEGER"
    ):
        objects.compile_pipeline()
