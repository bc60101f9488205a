"""What Kubeflow's driver makes of the compiled pipeline: the pods of runs, by a double that resolves as it does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.kfp_driver import resolve
from doubles.kfp_pod import PodTask
from doubles.kfp_workflow import workflow_bytes

from gradsift.components.preflight.step_settings import pods, step_settings
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings, form_of
from gradsift.components.shared.parameters.training import MAX_PARALLEL_RUNS
from gradsift.components.shared.process.pod_environment import MOUNTS
from gradsift.pipelines.text_channels import non_text_channels

COMMITTED = Path(__file__).parents[2] / "pipelines" / "pipeline.yaml"
CONCLUDING = {"conclude"}
EXTRACTING = {"extract-gradients"}
TRAINING = {"meta-train", "train-runs", "train-runs-2", "fine-tune-target"}
"""KFP numbers the component of a task that is in two loops."""
LARGE = EXTRACTING | TRAINING | CONCLUDING
CHECKS = {"preflight", "delete-leftovers"}
SMALL = {
    "prepare-data",
    "plan-calibration",
    "estimate-subsets",
    "evaluate",
}
EVERYTHING = {
    "calibrate_runs": 10,
    "confirm_runs": 100,
    "train_parallel_runs": MAX_PARALLEL_RUNS,
    "promote_model_name": "model",
    "gpus": 2,
    "gpu_type": "amd.com/gpu",
    "cpu": "8",
    "memory": "64Gi",
    "resources_small_cpu": "1",
    "resources_small_memory": "4Gi",
    "platform_node_selector": {"pool": "gpu"},
    "platform_tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 60}],
    "platform_secret": "team-secret",
    "platform_settings": "team-settings",
}
KEY = "0123456789abcdef"
"""Key of a run's outputs, or of a plan."""
MAX_WORKFLOW_BYTES = 700 * 1024
"""Argo compresses the state of a larger object than 1 MiB, and Kubeflow's API sees its tasks no more; the estimate
of the size is right to 3%."""


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(COMMITTED.read_text()))


def run_of(documents: list[dict[str, Any]], news: str = "changed", **parameters: Any) -> list[PodTask]:
    """Return the pods of a run with these parameters, whose preflight resolves as it does."""
    settings = PipelineSettings.of(parameters)
    groups = [f"{KEY}/{number}" for number in range(settings.parallel_runs.parallel_runs)]
    before = settings.calibration.runs or settings.confirmation.runs
    outputs = {
        "preflight": {**step_settings(settings), **pods(settings)},
        "prepare-data": {"outputs": KEY, "Output": news},
        "plan-calibration": {"Output": groups if before else []},
        "fine-tune-target": {"outputs": KEY, "Output": groups},
        **{
            name: {"Output": KEY}
            for name in ("meta-train", "extract-gradients", "estimate-subsets", "evaluate")
        },
    }
    return resolve(documents, form_of(parameters), outputs)


@pytest.fixture(scope="module")
def everything(documents: list[dict[str, Any]]) -> list[PodTask]:
    return run_of(documents, **EVERYTHING)


def names(run: list[PodTask]) -> list[str]:
    return [pod.name for pod in run]


def test_no_number_reaches_what_the_driver_reads_as_a_text(documents: list[dict[str, Any]]) -> None:
    assert non_text_channels(documents) == []


def test_a_run_by_default_has_these_pods(documents: list[dict[str, Any]]) -> None:
    run = run_of(documents)
    assert sorted(names(run)) == sorted(CHECKS | SMALL | LARGE)
    without = run_of(documents, confirm_runs=0)
    assert sorted(names(without)) == sorted((CHECKS | SMALL | LARGE) - {"train-runs"})


def test_a_run_with_everything_has_all_pods(everything: list[PodTask]) -> None:
    assert set(names(everything)) == CHECKS | SMALL | LARGE
    assert (
        names(everything).count("train-runs") == names(everything).count("train-runs-2") == MAX_PARALLEL_RUNS
    )


def test_runs_are_trained_in_as_many_pods_as_are_asked_for(documents: list[dict[str, Any]]) -> None:
    run = names(run_of(documents, confirm_runs=6, train_parallel_runs=MAX_PARALLEL_RUNS))
    assert run.count("train-runs") == run.count("train-runs-2") == MAX_PARALLEL_RUNS


def test_a_run_without_news_trains_nothing(documents: list[dict[str, Any]]) -> None:
    run = run_of(documents, news="unchanged", **EVERYTHING)
    assert set(names(run)) == CHECKS | {"prepare-data", "conclude-unchanged"}


@pytest.mark.parametrize(
    ("parameters", "gpus"), [({}, "1"), ({"gpus": 2}, "2"), ({"gpus": 0}, "0"), ({"gpus": 8}, "8")]
)
def test_training_pods_get_the_gpus_that_are_asked_for(
    parameters: dict[str, Any], gpus: str, documents: list[dict[str, Any]]
) -> None:
    run = run_of(documents, calibrate_runs=4, promote_model_name="model", **parameters)
    for pod in run:
        expected = {"nvidia.com/gpu": gpus} if pod.name in LARGE else {}
        assert {name: count for name, count in pod.limits.items() if "gpu" in name} == expected, pod.name


def test_cpu_and_memory_are_those_of_the_parameters(everything: list[PodTask]) -> None:
    for pod in everything:
        cpu, memory = ("8", "64Gi") if pod.name in LARGE else ("1", "4Gi")
        if pod.name in CHECKS:
            cpu, memory = "2", "8Gi"
        assert pod.requests == {"cpu": cpu}, pod.name
        assert pod.limits["memory"] == memory, pod.name
        assert pod.limits.get("amd.com/gpu") == ("2" if pod.name in LARGE else None)


@pytest.mark.parametrize(
    ("parameters", "launching"),
    [
        ({"train_nodes": 2}, TRAINING),
        ({"extract_pods": 2}, EXTRACTING),
        ({"promote_model_name": ""}, CONCLUDING),
    ],
)
def test_pods_that_compute_nothing_themselves_are_small_and_have_no_gpus(
    parameters: dict[str, Any], launching: set[str], documents: list[dict[str, Any]]
) -> None:
    for pod in run_of(documents, **{**EVERYTHING, **parameters}):
        if pod.name in LARGE:
            small = pod.name in launching
            expected = ("1", "4Gi", "0") if small else ("8", "64Gi", "2")
            assert (pod.requests["cpu"], pod.limits["memory"], pod.limits["amd.com/gpu"]) == expected, (
                pod.name
            )


def test_large_pods_are_placed_by_parameters(everything: list[PodTask]) -> None:
    for pod in everything:
        selector, tolerations = pod.patch.get("nodeSelector"), pod.patch.get("tolerations")
        if pod.name in LARGE:
            assert selector == {"pool": "gpu"}
            assert tolerations == [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 60}]
        else:
            assert not selector
            assert not tolerations


def volumes(pod: PodTask) -> dict[str, dict[str, Any]]:
    """Return a pod's volumes by the folders where they are mounted."""
    found = {each["name"]: each for each in pod.patch.get("volumes", [])}
    assert len(found) == len(pod.patch.get("volumes", [])), "a volume's name stands for one"
    mounts = pod.container["volumeMounts"]
    return {mount["mountPath"]: found[mount["name"]] for mount in mounts}


def test_secret_and_settings_are_volumes_that_may_be_missing(everything: list[PodTask]) -> None:
    for pod in everything:
        mounted = volumes(pod)
        assert mounted[f"{MOUNTS}/secret"]["secret"] == {"secretName": "team-secret", "optional": True}
        assert mounted[f"{MOUNTS}/settings"]["configMap"] == {"name": "team-settings", "optional": True}


def test_pods_have_a_scratch_folder_and_training_has_shared_memory_up_to_its_limit(
    everything: list[PodTask],
) -> None:
    for pod in everything:
        mounted = volumes(pod)
        assert mounted["/tmp"]["emptyDir"] == {}
        assert ("/dev/shm" in mounted) == (pod.name in LARGE), pod.name
        if pod.name in LARGE:
            assert mounted["/dev/shm"]["emptyDir"] == {"medium": "Memory"}


def test_the_only_variable_is_the_runs_id(everything: list[PodTask]) -> None:
    for pod in everything:
        assert pod.environment == {
            "KFP_RUN_ID": {
                "name": "KFP_RUN_ID",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['pipeline/runid']"}},
            }
        }


def test_a_lost_pod_is_tried_again_and_a_failed_step_is_not(everything: list[PodTask]) -> None:
    for pod in everything:
        assert (pod.retry.limit, pod.retry.policy) == (2, "OnError"), pod.name


def test_a_pod_that_hangs_is_stopped(everything: list[PodTask]) -> None:
    for pod in everything:
        hours = 7 * 24 if pod.name in LARGE else 12
        assert pod.patch["activeDeadlineSeconds"] == hours * 3600, pod.name


def test_no_task_is_cached_by_kfp(documents: list[dict[str, Any]]) -> None:
    spec = documents[0]
    for graph in (spec["root"], *spec["components"].values()):
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            if "executorLabel" in spec["components"][task["componentRef"]["name"]]:
                assert not task.get("cachingOptions", {}).get("enableCache"), name


def test_the_workflow_of_a_run_with_everything_stays_small(
    documents: list[dict[str, Any]], everything: list[PodTask]
) -> None:
    size = workflow_bytes(documents, everything)
    assert size.spec + size.status < MAX_WORKFLOW_BYTES


def test_model_cache_and_queue_are_fixed_at_compilation(tmp_path: Path, everything: list[PodTask]) -> None:
    assert not any("/models" in volumes(pod) or pod.labels for pod in everything)
    path = tmp_path / "pipeline.yaml"
    planted = "planted-secret-value"
    site = {"GRADSIFT_MODEL_CACHE": "team-models", "GRADSIFT_QUEUE": "gpus"}
    site |= {"AWS_SECRET_ACCESS_KEY": planted, "MLFLOW_TRACKING_TOKEN": planted, "HF_TOKEN": planted}
    command = [sys.executable, "-m", "gradsift.pipelines.cli.command_line", "compile", "--to", str(path)]
    subprocess.run(command, env={**os.environ, **site}, check=True, timeout=120)
    assert planted not in path.read_text()
    for pod in run_of(list(yaml.safe_load_all(path.read_text())), **EVERYTHING):
        opens_models = pod.name in LARGE | {"preflight"}
        assert ("/models" in volumes(pod)) == opens_models, pod.name
        if opens_models:
            assert volumes(pod)["/models"]["persistentVolumeClaim"]["claimName"] == "team-models"
            assert pod.environment["HF_HOME"]["value"] == "/models"
        queue = {"kueue.x-k8s.io/queue-name": "gpus"} if pod.name in LARGE else {}
        assert pod.labels == queue
