"""The TrainJob's form: golden files, the CRD's own models, and what must never be in it."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.trainer_api_double import LAUNCHER, LAUNCHER_LABELS, LAUNCHER_SPEC
from hypothesis import given
from hypothesis import strategies as st
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.kubeflow_trainer.train_job_payload import (
    DIGEST,
    RUNTIME,
    gpu_count,
    train_job_name,
    train_job_payload,
)

GOLDEN = Path(__file__).parent / "golden"
POD = {
    "metadata": {"name": LAUNCHER, "uid": "6f1b", "labels": LAUNCHER_LABELS},
    "spec": LAUNCHER_SPEC,
}
PLAIN = {
    "metadata": {"name": LAUNCHER, "uid": "6f1b"},
    "spec": {"containers": [{"name": "step", "image": "gradsift/train:0.1.0"}]},
}
GPUS = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": 8}
COMMAND = [
    "python",
    "-m",
    "gradsift.components.shared.kubeflow_trainer.train_node",
    "s3://b/work/x",
    "jobs-1.json",
]
CLUSTER_RUNTIME = "ClusterTrainingRuntime/team-gradsift-torch"
CASES: dict[str, tuple[Any, ...]] = {
    "gpus": (POD, 4, 8, GPUS, CLUSTER_RUNTIME),
    "plain": (PLAIN, 2, 1, {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": 0}),
}


def payload(
    pod: Any = POD, nodes: int = 4, processes: int = 8, resources: Any = GPUS, runtime: str = RUNTIME
) -> dict[str, Any]:
    return train_job_payload("run-1", "meta_training", pod, runtime, nodes, processes, resources, COMMAND)


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_golden_one(name: str) -> None:
    assert payload(*CASES[name]) == yaml.safe_load((GOLDEN / f"train_job_{name}.yaml").read_text())


@pytest.mark.parametrize("name", CASES)
def test_trainers_models_take_it_whole(name: str) -> None:
    made = payload(*CASES[name])
    read = TrainerV1alpha1TrainJob.from_dict(made)
    assert read is not None
    assert json.loads(json.dumps(read.to_dict(), default=str)) == made


def test_a_retry_by_another_pod_has_the_same_name_and_digest() -> None:
    pod = copy.deepcopy(POD)
    pod["metadata"].update(name="other", uid="77")  # type: ignore[attr-defined]
    first, second = payload(), payload(pod)
    assert first["metadata"]["name"] == second["metadata"]["name"]
    assert first["metadata"]["annotations"] == second["metadata"]["annotations"]
    assert first["metadata"]["ownerReferences"] != second["metadata"]["ownerReferences"]


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": 2},
        {"processes": 4},
        {"resources": {**GPUS, "cpu": "8"}},
        {"pod": PLAIN},
        {"runtime": CLUSTER_RUNTIME},
    ],
)
def test_whatever_else_changes_changes_the_digest(change: dict[str, Any]) -> None:
    digests = {made["metadata"]["annotations"][DIGEST] for made in (payload(), payload(**change))}
    assert len(digests) == 2


@pytest.mark.parametrize("runtime", ["gradsift-torch", "TrainingRuntime/", "Runtime/gradsift-torch", ""])
def test_a_runtime_of_another_form_is_refused(runtime: str) -> None:
    with pytest.raises(InputError, match="GRADSIFT_TRAINING_RUNTIME is '"):
        payload(runtime=runtime)


def test_the_owner_blocks_no_deletion() -> None:
    (owner,) = payload()["metadata"]["ownerReferences"]
    assert "blockOwnerDeletion" not in owner
    assert "controller" not in owner


def test_values_of_variables_stay_in_the_pod() -> None:
    pod = copy.deepcopy(POD)
    pod["spec"]["containers"][1]["env"].append({"name": "PLANTED", "value": "secret-value"})  # type: ignore[index]
    made = payload(pod)
    assert "secret-value" not in json.dumps(made)
    assert {variable["name"] for variable in made["spec"]["trainer"]["env"]} == {
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "GRADSIFT_GPUS",
    }


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_names_can_be_names_of_pods_and_differ_by_run_and_step(run: str, step: str) -> None:
    name = train_job_name(run, step)
    pod = f"{name}-node-0-0-abcde"
    assert len(pod) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name != train_job_name(run + "x", step)


def test_gpus_are_what_is_neither_cpu_nor_memory() -> None:
    assert gpu_count({"cpu": "4", "memory": "1Gi", "amd.com/gpu": "3"}) == 3
    assert gpu_count({}) == 0
