"""The pipeline's interface and wiring, read from its compiled form."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from gradsift.components.preflight.component import preflight
from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE
from gradsift.components.shared.kubeflow_trainer.component import delete_leftovers
from gradsift.components.shared.kubeflow_trainer.kubernetes_api import KubernetesError
from gradsift.components.shared.parameters.pipeline_settings import SETTINGS, form_parameters
from gradsift.pipelines.pipeline import gradsift_pipeline

COMMITTED = Path(__file__).parents[2] / "pipelines" / "pipeline.yaml"
LARGE = {"meta-train", "extract-gradients", "train-runs", "train-runs-2", "fine-tune-target", "conclude"}
"""KFP numbers the component of a task that is in two loops."""
CHECKS = {"preflight", "delete-leftovers"}
"""Tasks that take the form itself."""
MAX_YAML_BYTES = 120_000


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compiler.Compiler().compile(gradsift_pipeline, str(path))
    return list(yaml.safe_load_all(path.read_text()))


def test_committed_yaml_is_a_fresh_compile(compiled: list[dict[str, Any]]) -> None:
    assert list(yaml.safe_load_all(COMMITTED.read_text())) == compiled, (
        "run `make compile` and commit the result"
    )


def test_yaml_is_ascii_and_small() -> None:
    assert COMMITTED.read_bytes().isascii()
    assert COMMITTED.stat().st_size < MAX_YAML_BYTES


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
        "prepare-data": set(),
        "condition-2": {"prepare-data"},
        "condition-5": {"prepare-data"},
    }
    assert needs(components["comp-condition-2"]) == {
        "meta-train": set(),
        "extract-gradients": {"meta-train"},
        "plan-calibration": {"extract-gradients"},
        "for-loop-3": {"plan-calibration"},
        "estimate-subsets": {"extract-gradients", "plan-calibration", "for-loop-3"},
        "fine-tune-target": {"estimate-subsets"},
        "for-loop-4": {"fine-tune-target"},
        "evaluate": {"fine-tune-target", "for-loop-4"},
        "conclude": {"evaluate"},
    }
    assert needs(components["comp-condition-5"]) == {"conclude-unchanged": set()}
    assert needs(components["comp-for-loop-3"]) == {"train-runs": set()}
    assert needs(components["comp-for-loop-4"]) == {"train-runs-2": set()}


def test_a_container_ends_last_in_every_group_whatever_is_skipped(compiled: list[dict[str, Any]]) -> None:
    components = compiled[0]["components"]
    [root_task] = needs(compiled[0]["root"]).keys() - {"preflight", "exit-handler-1"}
    assert "executorLabel" in components[f"comp-{root_task}"]
    for name, graph in components.items():
        if "dag" not in graph:
            continue
        waited_for = set().union(*needs(graph).values())
        last = [task for each, task in graph["dag"]["tasks"].items() if each not in waited_for]
        conditions = [task["triggerPolicy"]["condition"] for task in last if "triggerPolicy" in task]
        if conditions:  # one of the two is met, and their graphs are looked at, too
            assert len(conditions) == len(last) == 2, name
            news = "inputs.parameter_values['pipelinechannel--prepare-data-Output']"
            assert conditions == [f"{news} == 'changed'", f"{news} == 'unchanged'"], name
        else:
            assert len(last) == 1, name
            assert "executorLabel" in components[last[0]["componentRef"]["name"]], name


def test_steps_take_what_was_made_so_far_by_one_key(compiled: list[dict[str, Any]]) -> None:
    for name, component in compiled[0]["components"].items():
        assert "artifacts" not in component.get("inputDefinitions", {}), name


def test_artifacts_and_groups_have_names_of_their_own(compiled: list[dict[str, Any]]) -> None:
    components = compiled[0]["components"]
    artifacts = [
        name
        for component in components.values()
        if "executorLabel" in component
        for name in component.get("outputDefinitions", {}).get("artifacts", {})
    ]
    assert sorted(artifacts) == [
        "checks",
        "confusion",
        "data",
        "evaluation",
        "fine_tuned_model",
        "gradients",
        "meta_model",
        "metrics",
        "report",
        "selection",
        "statistics",
        "summary",
        "summary",  # of one run, only one of the two is made
    ]
    graphs = [compiled[0]["root"], *components.values()]
    groups = {
        name: task["taskInfo"]["name"]
        for graph in graphs
        for name, task in graph.get("dag", {}).get("tasks", {}).items()
        if "dag" in components[task["componentRef"]["name"]]
    }
    assert groups == {
        "exit-handler-1": "select-and-fine-tune",
        "condition-2": "if-changed",
        "for-loop-3": "calibration-runs",
        "for-loop-4": "comparison-runs",
        "condition-5": "if-unchanged",
    }


def test_the_picture_of_the_graph_shows_every_task_and_group(compiled: list[dict[str, Any]]) -> None:
    graphs = [compiled[0]["root"], *compiled[0]["components"].values()]
    names = [
        task["taskInfo"]["name"]
        for graph in graphs
        for task in graph.get("dag", {}).get("tasks", {}).values()
    ]
    picture = COMMITTED.with_name("graph.svg").read_text()
    shown = re.findall(r'<text class="(?:name|title)"[^>]*>([^<]+)<', picture)
    assert sorted(shown) == sorted(names)


def test_tasks_are_shown_by_what_they_do(compiled: list[dict[str, Any]]) -> None:
    graphs = [compiled[0]["root"], *compiled[0]["components"].values()]
    tasks = [task for graph in graphs for task in graph.get("dag", {}).get("tasks", {}).values()]
    for task in tasks:
        assert not re.search(r"\d", task["taskInfo"]["name"]), task["taskInfo"]["name"]


def test_the_form_is_the_pipelines_interface() -> None:
    inputs = gradsift_pipeline.component_spec.inputs
    kinds = {"String": str, "Integer": int, "Float": float, "Boolean": bool, "List": list, "Dict": dict}
    form = form_parameters()
    assert list(inputs) == [*form, SETTINGS]
    for name, parameter in form.items():
        assert kinds[inputs[name].type] is parameter.kind, name
        assert inputs[name].default == parameter.default, name
        assert " ".join(inputs[name].description.split()) == parameter.description, name
        assert inputs[name].optional, name
    assert (inputs[SETTINGS].type, inputs[SETTINGS].default) == ("Dict", {})


def test_every_choice_of_the_form_names_its_values(compiled: list[dict[str, Any]]) -> None:
    fields = compiled[0]["root"]["inputDefinitions"]["parameters"]
    choices = {name: list(each.choices) for name, each in form_parameters().items() if each.choices}
    assert choices == {"fine_tune_start": ["base", "meta"]}
    assert {name: each["literals"] for name, each in fields.items() if "literals" in each} == choices


def test_the_description_names_the_fields_of_the_form() -> None:
    description = gradsift_pipeline.pipeline_spec.pipeline_info.description
    assert len(description.splitlines()) == 5
    for name in form_parameters():
        assert f"`{name}`" in description or name.startswith("platform_"), name


def test_preflight_checks_every_field_before_anything_else() -> None:
    inputs = gradsift_pipeline.component_spec.inputs
    checked = preflight.component_spec.inputs
    assert {name: each.type for name, each in checked.items()} == {
        name: each.type for name, each in inputs.items()
    }
    given = gradsift_pipeline.pipeline_spec.root.dag.tasks["preflight"].inputs.parameters
    assert {name: given[name].component_input_parameter for name in inputs} == {name: name for name in inputs}


def test_every_step_takes_its_settings_from_preflight(compiled: list[dict[str, Any]]) -> None:
    spec = compiled[0]
    graphs = [spec["root"], *spec["components"].values()]
    taken = {}
    for graph in graphs:
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            if name not in CHECKS and "settings" in (given := task.get("inputs", {}).get("parameters", {})):
                taken[name] = given["settings"]["componentInputParameter"]
    assert taken == {
        name: f"pipelinechannel--preflight-{output}"
        for name, output in {
            "prepare-data": "data_preparation",
            "meta-train": "meta_training",
            "extract-gradients": "gradient_extraction",
            "plan-calibration": "subset_estimation",
            "train-runs": "fine_tuning",
            "train-runs-2": "fine_tuning",
            "estimate-subsets": "subset_estimation",
            "fine-tune-target": "fine_tuning",
            "evaluate": "evaluation",
            "conclude": "promotion",
            "conclude-unchanged": "promotion",
        }.items()
    }


def test_components_run_in_our_images_without_installing_anything(compiled: list[dict[str, Any]]) -> None:
    executors = compiled[0]["deploymentSpec"]["executors"]
    opening_models = LARGE | {"prepare-data", "preflight", "evaluate"}
    for name, executor in executors.items():
        container = executor["container"]
        step = name.removeprefix("exec-")
        assert container["image"] == (TRAIN_IMAGE if step in opening_models else CPU_IMAGE), name
        program = ["python3", "-P", "-m", "gradsift.components.shared.process.task"]
        assert container["command"][:4] == program


def test_what_nobody_reads_is_not_in_the_workflow(compiled: list[dict[str, Any]]) -> None:
    spec = json.dumps(compiled[0]["components"]) + json.dumps(compiled[0]["deploymentSpec"])
    assert '"description"' not in spec
    assert "def " not in spec
    assert "cpu_request" not in spec


@pytest.mark.parametrize(
    ("loop", "plan", "reader", "name"),
    [
        ("for-loop-3", "plan-calibration", "estimate-subsets", "calibration"),
        ("for-loop-4", "fine-tune-target", "evaluate", "comparisons"),
    ],
)
def test_loops_go_over_what_was_planned(
    loop: str, plan: str, reader: str, name: str, compiled: list[dict[str, Any]]
) -> None:
    tasks = compiled[0]["components"]["comp-condition-2"]["dag"]["tasks"]
    iterator = tasks[loop]["parameterIterator"]
    items = tasks[loop]["inputs"]["parameters"][iterator["items"]["inputParameter"]]
    assert items["taskOutputParameter"] == {"outputParameterKey": "Output", "producerTask": plan}
    assert tasks[reader]["inputs"]["parameters"][name] == items
    [task] = compiled[0]["components"][f"comp-{loop}"]["dag"]["tasks"].values()
    item = {"componentInputParameter": iterator["itemInput"]}
    assert item in task["inputs"]["parameters"].values()


def test_leftovers_are_deleted_however_the_run_ends(compiled: list[dict[str, Any]]) -> None:
    task = compiled[0]["root"]["dag"]["tasks"]["delete-leftovers"]
    assert task["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert task["inputs"]["parameters"]["nodes"] == {"componentInputParameter": "train_nodes"}
    assert task["inputs"]["parameters"]["settings"] == {"componentInputParameter": "settings"}


def test_a_run_whose_steps_need_no_nodes_leaves_nothing_to_delete() -> None:
    assert delete_leftovers.python_func(nodes=1, settings={}) is None
    assert delete_leftovers.python_func(nodes=1, settings={"extract_pods": 1}) is None


@pytest.mark.parametrize(("nodes", "settings"), [(2, {}), (1, {"extract_pods": 2})])
def test_what_nodes_leave_is_looked_for_in_the_cluster(nodes: int, settings: dict[str, int]) -> None:
    with pytest.raises(KubernetesError, match="This process has no access to a Kubernetes API"):
        delete_leftovers.python_func(nodes=nodes, settings=settings)
