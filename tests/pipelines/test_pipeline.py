"""The pipeline's interface and wiring, read from its compiled form."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from gradsift.components.calibration.component import plan_calibration
from gradsift.components.data_preparation.component import prepare_data
from gradsift.components.evaluation.component import evaluate
from gradsift.components.gradient_extraction.component import plan_extraction, seal_gradients
from gradsift.components.meta_training.component import meta_train
from gradsift.components.preflight.component import preflight
from gradsift.components.preflight.parameter_checks import CONFIGS
from gradsift.components.promotion.component import compare_with_champion, promote_model
from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE
from gradsift.components.subset_estimation.component import estimate_subsets
from gradsift.components.target_finetuning.component import fine_tune_target
from gradsift.components.training_nodes.component import delete_leftovers, place_training
from gradsift.pipelines.parameters import defaults
from gradsift.pipelines.pipeline import gradsift_pipeline

COMMITTED = Path(__file__).parents[2] / "pipelines" / "pipeline.yaml"
COMPONENTS = [
    prepare_data,
    meta_train,
    plan_extraction,
    seal_gradients,
    plan_calibration,
    estimate_subsets,
    fine_tune_target,
    evaluate,
    compare_with_champion,
    promote_model,
]
# The final fine-tuning is short, gentle and counted in steps, so that every comparison costs the same.
OWN_DEFAULTS = {"fine_tune_steps": 40, "fine_tune_learning_rate": 5e-5, "fine_tune_epochs": 3.0}
LARGE = {"meta-train", "extract-part", "calibrate", "fine-tune-target", "evaluate", "promote-model"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compiler.Compiler().compile(gradsift_pipeline, str(path))
    return list(yaml.safe_load_all(path.read_text()))


def test_committed_yaml_is_a_fresh_compile(compiled: list[dict[str, Any]]) -> None:
    assert list(yaml.safe_load_all(COMMITTED.read_text())) == compiled, (
        "run `make compile` and commit the result"
    )


def test_yaml_is_ascii() -> None:
    assert COMMITTED.read_bytes().isascii()


def needs(graph: dict[str, Any]) -> dict[str, set[str]]:
    """Return what each task of a graph waits for."""
    return {name: set(task.get("dependentTasks", [])) for name, task in graph["dag"]["tasks"].items()}


def test_every_group_is_given_what_its_tasks_take_from_it(compiled: list[dict[str, Any]]) -> None:
    groups = {name: part for name, part in compiled[0]["components"].items() if "dag" in part}
    assert groups
    for name, group in groups.items():
        given = set(group["inputDefinitions"].get("parameters", {}))
        for task_name, task in group["dag"]["tasks"].items():
            taken = {
                each["componentInputParameter"]
                for each in task.get("inputs", {}).get("parameters", {}).values()
                if "componentInputParameter" in each
            }
            assert taken <= given, (name, task_name)


def test_steps_and_their_order(compiled: list[dict[str, Any]]) -> None:
    components = compiled[0]["components"]
    assert needs(compiled[0]["root"]) == {
        "preflight": set(),
        "exit-handler-1": {"preflight"},
        "delete-leftovers": {"exit-handler-1"},
    }
    assert needs(components["comp-exit-handler-1"]) == {
        "place-training": set(),
        "prepare-data": set(),
        "compare-with-champion": {"prepare-data"},
        "condition-2": {"place-training", "prepare-data", "compare-with-champion"},
    }
    assert needs(components["comp-condition-2"]) == {
        "meta-train": set(),
        "plan-extraction": set(),
        "for-loop-3": {"meta-train", "plan-extraction"},
        "seal-gradients": {"meta-train", "plan-extraction", "for-loop-3"},
        "plan-calibration": {"meta-train"},
        "for-loop-4": {"plan-calibration"},
        "estimate-subsets": {"meta-train", "seal-gradients", "plan-calibration", "for-loop-4"},
        "fine-tune-target": {"estimate-subsets"},
        "evaluate": {"estimate-subsets", "fine-tune-target"},
        "condition-5": {"fine-tune-target", "evaluate"},
    }
    assert needs(components["comp-condition-5"]) == {"promote-model": set()}


def test_nothing_is_trained_without_news_and_nothing_promoted_without_a_name(
    compiled: list[dict[str, Any]],
) -> None:
    tasks = compiled[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert tasks["condition-2"]["triggerPolicy"]["condition"] == (
        "inputs.parameter_values['pipelinechannel--compare-with-champion-Output'] == 'changed'"
    )
    inner = compiled[0]["components"]["comp-condition-2"]["dag"]["tasks"]["condition-5"]
    assert inner["triggerPolicy"]["condition"] == (
        "inputs.parameter_values['pipelinechannel--promote_model_name'] != ''"
    )


def test_every_parameter_is_typed_described_and_has_a_default() -> None:
    for name, definition in gradsift_pipeline.component_spec.inputs.items():
        assert definition.type in {"String", "Integer", "Float", "Boolean", "List", "Dict"}, name
        assert definition.description, name
        assert definition.optional, name


def test_parameters_are_those_of_the_settings_with_their_defaults_and_sentences() -> None:
    inputs = gradsift_pipeline.component_spec.inputs
    expected = {}
    for prefixes, config in CONFIGS:
        for field in dataclasses.fields(config):
            names = [f"{prefix}_{field.name}" for prefix in prefixes if f"{prefix}_{field.name}" in inputs]
            if config.__name__ == "SubsetEstimationConfig" and field.name == "ridge_scaling":
                assert not names, "the ridge's scaling follows from the recipe"
                continue
            assert len(names) == 1, f"{config.__name__}.{field.name} is in the pipeline as {names}"
            expected[names[0]] = (_default(field), _sentences(config)[field.name])
    for name, (default, sentence) in expected.items():
        assert inputs[name].default == OWN_DEFAULTS.get(name, default), name
        assert " ".join(inputs[name].description.split()) == sentence, name
    assert {name for name in inputs if name not in expected} == {"output_uri", "extract_base_weights"}


def test_preflight_checks_every_parameter_before_anything_else() -> None:
    inputs = gradsift_pipeline.component_spec.inputs
    checked = preflight.component_spec.inputs
    assert {name: each.type for name, each in checked.items()} == {
        name: each.type for name, each in inputs.items()
    }
    given = gradsift_pipeline.pipeline_spec.root.dag.tasks["preflight"].inputs.parameters
    assert {name: given[name].component_input_parameter for name in inputs} == {name: name for name in inputs}


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_component_defaults_are_the_pipelines(component: Any) -> None:
    known = defaults()
    spec = gradsift_pipeline.pipeline_spec
    task = next(
        task
        for graph in (spec.root, *spec.components.values())
        for task in graph.dag.tasks.values()
        if task.component_ref.name == f"comp-{component.name}"
    )
    for name, definition in component.component_spec.inputs.items():
        if definition.optional and name not in {"calibration", "node_resources"}:
            source = task.inputs.parameters[name].component_input_parameter.removeprefix("pipelinechannel--")
            assert known[source] == definition.default or source in OWN_DEFAULTS, name


def test_components_run_in_our_images_without_installing_anything(compiled: list[dict[str, Any]]) -> None:
    executors = compiled[0]["deploymentSpec"]["executors"]
    opening_models = LARGE | {"prepare-data"}
    for name, executor in executors.items():
        container = executor["container"]
        step = name.removeprefix("exec-")
        assert container["image"] == (TRAIN_IMAGE if step in opening_models else CPU_IMAGE)
        assert "pip install" not in " ".join(container["command"])


@pytest.mark.parametrize(
    ("loop", "plan"), [("for-loop-3", "plan-extraction"), ("for-loop-4", "plan-calibration")]
)
def test_what_runs_in_a_loop_is_given_the_resources_of_training(
    loop: str, plan: str, compiled: list[dict[str, Any]]
) -> None:
    components = compiled[0]["components"]
    [group] = components[f"comp-{loop}"]["dag"]["tasks"].values()
    given = {
        name: source["componentInputParameter"] for name, source in group["inputs"]["parameters"].items()
    }
    for name in ("cpu", "memory", "gpus", "gpu_type"):
        trains = plan == "plan-calibration" and name != "gpu_type"
        assert given[name].endswith(f"place-training-{name}" if trains else f"resources_{name}"), name
    for name in ("s3_secret", "mlflow_secret", "hub_secret", "settings", "node_selector", "tolerations"):
        assert given[name].endswith(f"platform_{name}")
    tasks = components["comp-condition-2"]["dag"]["tasks"]
    task = tasks[loop]
    items = task["inputs"]["parameters"][task["parameterIterator"]["items"]["inputParameter"]]
    assert items["taskOutputParameter"]["producerTask"] == plan
    if plan == "plan-calibration":
        assert tasks["estimate-subsets"]["inputs"]["parameters"]["calibration"] == items


def test_parts_are_extracted_and_sealed_by_the_same_settings(compiled: list[dict[str, Any]]) -> None:
    components = compiled[0]["components"]
    tasks = components["comp-condition-2"]["dag"]["tasks"]
    [group] = components["comp-for-loop-3"]["dag"]["tasks"].values()
    [task] = components["comp-extract-group"]["dag"]["tasks"].values()
    planned = tasks["seal-gradients"]["inputs"]["parameters"]["planned"]
    assert planned["taskOutputParameter"]["producerTask"] == "plan-extraction"
    loop = tasks["for-loop-3"]
    item = loop["parameterIterator"]
    assert loop["inputs"]["parameters"][item["items"]["inputParameter"]] == planned
    assert group["inputs"]["parameters"]["planned"]["componentInputParameter"] == item["itemInput"]
    assert task["inputs"]["parameters"]["planned"]["componentInputParameter"] == "planned"
    for name in plan_extraction.component_spec.inputs:
        source = tasks["plan-extraction"]["inputs"]["parameters"][name]["componentInputParameter"]
        assert source == f"pipelinechannel--extract_{name}"


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _sentences(config: type[Any]) -> dict[str, str]:
    text = inspect.getdoc(config) or ""
    attributes = text.split("Attributes:")[1].split("\nRaises:")[0]
    found = re.finditer(r"^    (\w+): (.*(?:\n        .*)*)", attributes, re.MULTILINE)
    return {match[1]: " ".join(match[2].split()) for match in found}


@pytest.mark.parametrize(
    ("nodes", "placement"), [(1, ("64", "512Gi", 8)), (2, ("2", "8Gi", 0))], ids=["one node", "two nodes"]
)
def test_pods_that_launch_nodes_need_no_gpus_themselves(nodes: int, placement: tuple[Any, ...]) -> None:
    found = place_training.python_func(
        nodes=nodes,
        cpu="64",
        memory="512Gi",
        gpus=8,
        gpu_type="amd.com/gpu",
        small_cpu="2",
        small_memory="8Gi",
    )
    assert tuple(found) == (*placement, {"cpu": "64", "memory": "512Gi", "amd.com/gpu": 8})


@pytest.mark.parametrize("task", ["meta-train", "fine-tune-target", "evaluate"])
def test_what_trains_knows_the_resources_of_its_nodes(task: str, compiled: list[dict[str, Any]]) -> None:
    tasks = compiled[0]["components"]["comp-condition-2"]["dag"]["tasks"]
    source = tasks[task]["inputs"]["parameters"]["node_resources"]["componentInputParameter"]
    assert source == "pipelinechannel--place-training-node_resources"


def test_leftovers_are_deleted_however_the_run_ends(compiled: list[dict[str, Any]]) -> None:
    task = compiled[0]["root"]["dag"]["tasks"]["delete-leftovers"]
    assert task["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert task["inputs"]["parameters"]["nodes"] == {"componentInputParameter": "train_nodes"}


def test_outside_a_cluster_a_run_on_one_node_leaves_nothing_to_delete() -> None:
    assert delete_leftovers.python_func(nodes=1) is None
