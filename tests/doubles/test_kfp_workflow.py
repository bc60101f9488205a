"""The estimate of a workflow object's size."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from doubles.kfp_driver import resolve
from doubles.kfp_workflow import workflow_bytes
from kfp import dsl

Compile = Callable[[Any], list[dict[str, Any]]]


@dsl.component(base_image="image", install_kfp_package=False)
def step(text: str) -> None:
    pass


@dsl.pipeline(name="loop")
def pipeline(words: list = []) -> None:  # noqa: B006
    with dsl.ParallelFor(words) as word:
        step(text=word)


def test_every_pod_adds_six_copies_of_its_patch(compiled: Compile) -> None:
    documents = compiled(pipeline)
    one = resolve(documents, {"words": ["a"]})
    small = workflow_bytes(documents, one)
    large = workflow_bytes(documents, resolve(documents, {"words": ["a", "b", "c"]}))
    patch = len(json.dumps(json.dumps(one[0].patch, separators=(",", ":"))))
    assert small.patches >= 6 * patch
    assert large.patches == 3 * small.patches
    assert large.spec == small.spec
    assert large.status - small.status > large.patches - small.patches > 0


def test_the_specification_holds_every_component_once(compiled: Compile) -> None:
    documents = compiled(pipeline)
    size = workflow_bytes(documents, resolve(documents, {"words": ["a"]})).spec
    documents[0]["deploymentSpec"]["executors"]["exec-step"]["container"]["args"].append("x" * 10_000)
    pods = resolve(documents, {"words": ["a"]})
    assert workflow_bytes(documents, pods).spec - size == 10_000 + len(',\\"\\"')


def test_every_iteration_adds_two_copies_of_its_graph_and_so_does_the_loop(compiled: Compile) -> None:
    documents = compiled(pipeline)
    pods = resolve(documents, {"words": ["a"]})
    size = workflow_bytes(documents, pods).status
    graph = documents[0]["components"]["comp-for-loop-1"]
    graph["inputDefinitions"]["parameters"]["pipelinechannel--words"]["description"] = "x" * 10_000
    copies = (workflow_bytes(documents, pods).status - size) / 10_000
    assert copies == pytest.approx(4, rel=0.01)


def test_equal_pods_compress_well(compiled: Compile) -> None:
    documents = compiled(pipeline)
    size = workflow_bytes(documents, resolve(documents, {"words": ["a"] * 50}))
    assert size.compressed < size.status / 5
