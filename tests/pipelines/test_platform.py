"""What the compiled pipeline says of pods: resources, secrets, shared memory, retries, caching, time limits."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

COMMITTED = Path(__file__).parents[2] / "pipelines" / "pipeline.yaml"
LARGE = {"meta-train", "extract-part", "calibrate", "fine-tune-target", "evaluate", "promote-model"}
SMALL = {
    "place-training",
    "delete-leftovers",
    "preflight",
    "prepare-data",
    "compare-with-champion",
    "plan-extraction",
    "seal-gradients",
    "plan-calibration",
    "estimate-subsets",
}
SECRETS = {
    "s3_secret": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
    "mlflow_secret": {"MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
    "hub_secret": {"HF_TOKEN"},
}
Executors = dict[str, dict[str, Any]]


def documents(text: str) -> tuple[dict[str, Any], Executors]:
    """Return the pipeline's specification, and what Kubernetes is told of each component that runs in a pod."""
    spec, platform = yaml.safe_load_all(text)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec, {name.removeprefix("exec-"): executor for name, executor in executors.items()}


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return documents(COMMITTED.read_text())[0]


@pytest.fixture(scope="module")
def executors() -> Executors:
    return documents(COMMITTED.read_text())[1]


def containers(spec: dict[str, Any]) -> dict[str, Any]:
    found = spec["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in found.items()}


def pods(spec: dict[str, Any]) -> dict[str, Any]:
    """Return every task that runs in a pod, of all graphs."""
    graphs = [spec["root"], *spec["components"].values()]
    return {
        name: task
        for graph in graphs
        for name, task in graph.get("dag", {}).get("tasks", {}).items()
        if "executorLabel" in spec["components"][task["componentRef"]["name"]]
    }


def test_every_pod_is_known_here(spec: dict[str, Any], executors: Executors) -> None:
    assert set(pods(spec)) == set(containers(spec)) == set(executors) == LARGE | SMALL


def test_no_task_is_cached_by_kfp(spec: dict[str, Any]) -> None:
    for name, task in pods(spec).items():
        assert not task.get("cachingOptions", {}).get("enableCache"), name


def test_a_task_is_tried_three_times_but_for_checks(spec: dict[str, Any]) -> None:
    for name, task in pods(spec).items():
        if name == "preflight":
            assert "retryPolicy" not in task
        else:
            assert task["retryPolicy"]["maxRetryCount"] == 2, name
            assert task["retryPolicy"]["backoffDuration"] == "30s", name


def test_cpu_memory_and_gpus_are_parameters(spec: dict[str, Any]) -> None:
    for name, container in containers(spec).items():
        resources = container["resources"]
        kind = "resources_small" if name in SMALL else "resources"
        if name in {"calibrate", "extract-part"}:
            cpu, memory = "cpu", "memory"
        elif name in {"meta-train", "fine-tune-target", "evaluate"}:
            cpu, memory = "place-training-cpu", "place-training-memory"
        else:
            cpu, memory = f"{kind}_cpu", f"{kind}_memory"
        assert f"{cpu}']" in resources["resourceCpuRequest"], name
        assert f"{memory}']" in resources["resourceMemoryRequest"], name
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"], name
        assert ("accelerator" in resources) == (name in LARGE), name
        if name in LARGE:
            assert "gpus']" in resources["accelerator"]["resourceCount"]
            assert "gpu_type']" in resources["accelerator"]["resourceType"]


def test_credentials_are_optional_secrets_by_name(executors: Executors) -> None:
    for name, executor in executors.items():
        given = {
            secret["secretNameParameter"]["componentInputParameter"].rpartition("platform_")[2]: secret
            for secret in executor["secretAsEnv"]
        }
        assert given.keys() == SECRETS.keys(), name
        for parameter, keys in SECRETS.items():
            assert given[parameter]["optional"] is True
            assert {key["envVar"] for key in given[parameter]["keyToEnv"]} == keys
            assert all(key["envVar"] == key["secretKey"] for key in given[parameter]["keyToEnv"])


def test_addresses_and_folders_come_from_the_config_map_of_the_chart(executors: Executors) -> None:
    golden = Path(__file__).parents[1] / "charts" / "golden" / "everything.yaml"
    [settings] = [
        each
        for each in yaml.safe_load_all(golden.read_text())
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].endswith("-settings")
    ]
    for executor in executors.values():
        [config_map] = executor["configMapAsEnv"]
        assert config_map["optional"] is True
        assert settings["data"].keys() <= {key["envVar"] for key in config_map["keyToEnv"]}
        assert all(key["envVar"] == key["configMapKey"] for key in config_map["keyToEnv"])


def test_pods_know_their_run_and_have_a_scratch_folder(executors: Executors) -> None:
    for executor in executors.values():
        assert {"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"} in executor[
            "fieldPathAsEnv"
        ]
        assert {"volumeName": "tmp", "mountPath": "/tmp"} in executor["emptyDirMounts"]


def test_training_has_shared_memory_up_to_its_memory_limit_and_is_placed_by_parameters(
    executors: Executors,
) -> None:
    for name, executor in executors.items():
        shared = {"volumeName": "dshm", "mountPath": "/dev/shm", "medium": "Memory"}
        assert (shared in executor["emptyDirMounts"]) == (name in LARGE), name
        assert ("nodeSelector" in executor) == ("tolerations" in executor) == (name in LARGE), name
        if name in LARGE:
            selector = executor["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"]
            [toleration] = executor["tolerations"]
            assert selector.endswith("node_selector")
            assert toleration["tolerationJson"]["componentInputParameter"].endswith("tolerations")


def test_a_pod_that_hangs_is_stopped(executors: Executors) -> None:
    for name, executor in executors.items():
        assert int(executor["activeDeadlineSeconds"]) == (7 * 24 if name in LARGE else 12) * 3600, name


def test_nothing_is_installed_in_a_pod(spec: dict[str, Any]) -> None:
    assert "pip install" not in json.dumps(spec)


def test_model_cache_and_queue_are_fixed_at_compilation(tmp_path: Path, executors: Executors) -> None:
    assert not any("pvcMount" in executor or "podMetadata" in executor for executor in executors.values())
    path = tmp_path / "pipeline.yaml"
    planted = "planted-secret-value"
    site = {"GRADSIFT_MODEL_CACHE": "team-models", "GRADSIFT_QUEUE": "gpus"}
    site |= {key: planted for keys in SECRETS.values() for key in keys}
    command = [sys.executable, "-m", "gradsift.pipelines.command_line", "compile", "--to", str(path)]
    subprocess.run(command, env={**os.environ, **site}, check=True, timeout=120)
    assert planted not in path.read_text()
    spec, compiled = documents(path.read_text())
    for name in LARGE:
        [mount] = compiled[name]["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("team-models", "/models")
        assert {"name": "HF_HOME", "value": "/models"} in containers(spec)[name]["env"]
        assert compiled[name]["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "gpus"}
    assert "pvcMount" in compiled["preflight"], "it looks for the model where training does"
    for name in SMALL:
        assert "podMetadata" not in compiled[name]
