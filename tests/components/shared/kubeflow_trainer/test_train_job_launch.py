"""Whole lives of a TrainJob, seen by the real Kubernetes client: how it ends, and what comes between."""

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from doubles.trainer_api_double import JOBS, LAUNCHER, LAUNCHER_LABELS, LAUNCHER_SPEC, Thing, TrainerApi
from doubles.trainer_api_server import Cluster
from launched_step import NAME, RESOURCES, Launch, completes, event, fails, start
from waiting import wait_until

from gradsift.components.shared.errors import (
    BatchMemoryError,
    GpuMemoryError,
    GradsiftError,
    InputError,
    TrainingError,
)
from gradsift.components.shared.kubeflow_trainer import train_job_launch
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.kubeflow_trainer.train_job import delete_train_jobs
from gradsift.components.shared.kubeflow_trainer.train_job_launch import run_train_job
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.process import outages
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.processes import failure_of
from gradsift.components.shared.training.training import train


def test_a_job_that_completes(
    launch: Launch, trainer_api: TrainerApi, controllers: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    created = controllers(completes(trainer_api))
    launch.run()
    assert [each["metadata"]["name"] for each in created] == [NAME]
    assert launch.metrics() == [
        {"train_loss": 2.0, "learning_rate": 0.1},
        {"train_loss": 1.0, "learning_rate": 0.1},
    ]
    log = (launch.scratch / "training.log").read_text()
    assert log == "hello from the first node\n2/4\n"
    shown = capfd.readouterr().out
    assert "hello from the first node" in shown
    assert f"TrainJob {NAME}: complete: JobsCompleted: jobset completed successfully" in shown


def test_it_uses_the_training_runtime_that_the_chart_names(
    launch: Launch, trainer_api: TrainerApi, controllers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADSIFT_TRAINING_RUNTIME", "ClusterTrainingRuntime/team-torch")
    created = controllers(completes(trainer_api))
    launch.run()
    assert created[0]["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "ClusterTrainingRuntime",
        "name": "team-torch",
    }


def test_it_waits_through_suspension_without_counting_it_as_a_failure(
    launch: Launch, trainer_api: TrainerApi, controllers: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    def life() -> None:
        trainer_api.set_condition(NAME, "Suspended", "Suspended", "waiting for quota")
        time.sleep(0.5)
        trainer_api.set_condition(NAME, "Suspended", "Resumed", "admitted", on=False)
        completes(trainer_api)()

    controllers(life)
    launch.run()
    shown = capfd.readouterr().out
    assert shown.index("suspended: Suspended: waiting for quota") < shown.index("complete: JobsCompleted")
    assert len(launch.metrics()) == 2


def test_a_job_that_is_preempted_and_resumed_in_place_is_followed_to_its_end(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    def life() -> None:
        first, _ = trainer_api.start_nodes(NAME)
        trainer_api.say(first, event(1, 3.0))
        time.sleep(0.3)
        trainer_api.set_condition(NAME, "Suspended", "Preempted", "by a job of higher priority")
        for pod in trainer_api.pods_of(NAME):
            pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
        time.sleep(0.3)
        trainer_api.set_condition(NAME, "Suspended", on=False)
        completes(trainer_api)()

    created = controllers(life)
    launch.run()
    assert len(created) == 1
    assert [values["train_loss"] for values in launch.metrics()] == [3.0, 2.0, 1.0]


def test_a_failure_names_the_cause_and_leaves_a_report(
    launch: Launch, trainer_api: TrainerApi, controllers: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    controllers(fails(trainer_api))
    error = launch.fails()
    assert isinstance(error, TrainingError)
    assert str(error) == (
        f"TrainJob {NAME} failed: node 1 ended with exit code 1 (Error): [rank1]: ValueError: bad row 7 "
        f"(events, exit codes and logs: {launch.uri}/failure.md)."
    )
    report = open_storage(launch.uri).read("failure.md").decode()
    assert "jobset failed due to one or more job failures" in report
    assert "on worker-1: Failed, exit code 1 Error" in report
    assert "BackOff: Back-off restarting failed container" in report
    assert "## Node 1, rank1: last lines" in report
    assert "## Node 0, rank0: last lines" in report
    assert report in capfd.readouterr().out
    assert NAME in trainer_api.train_jobs, "it stays, for a look at it"


def test_what_a_node_said_itself_goes_before_exit_codes(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    def life() -> None:
        storage = open_storage(launch.uri)
        for rank, told in [
            (0, TrainingError("The peer is gone.")),
            (1, InputError("Task 'x' has no rows.")),
        ]:
            content = {"time": rank, **failure_of(told)}
            storage.write(f"failures/{rank}.json", json.dumps(content).encode())
            storage.write(f"logs/{rank}.log", f"[rank{rank}]: kept on S3\n".encode())
        fails(trainer_api)()

    controllers(life)
    error = launch.fails()
    assert isinstance(error, InputError)
    assert str(error) == "Task 'x' has no rows."


def test_lost_nodes_are_no_failure_of_the_training(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    target = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
    created = controllers(
        fails(trainer_api, 143, conditions=target),
        fails(trainer_api, 137, reason="Evicted", message="The node was low on resource: memory."),
        completes(trainer_api),
    )
    launch.run()
    assert len(created) == 3


def test_a_cluster_that_takes_nodes_away_again_and_again_is_given_up(
    launch: Launch, trainer_api: TrainerApi, controllers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_job_launch, "RESTARTS", 1)
    created = controllers(*[fails(trainer_api, 137, reason="Evicted")] * 2)
    assert "exit code 137" in str(launch.fails())
    assert len(created) == 2


def test_the_job_of_a_launcher_that_was_killed_is_adopted_by_the_next_try(
    launch: Launch,
    trainer_api: TrainerApi,
    controllers: Any,
    in_cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    created = controllers(lambda: trainer_api.set_condition(NAME, "Suspended"))
    first = start(launch, in_cluster)
    wait_until(lambda: NAME in trainer_api.train_jobs)
    first.kill()
    first.wait()
    assert NAME in trainer_api.train_jobs
    trainer_api.add_pod("second-try", LAUNCHER_LABELS, LAUNCHER_SPEC)
    monkeypatch.setenv("KFP_POD_NAME", "second-try")
    threading.Timer(0.5, completes(trainer_api)).start()
    launch.run()
    assert len(created) == 1
    (owner,) = created[0]["metadata"]["ownerReferences"]
    assert owner["name"] == LAUNCHER
    (owner,) = trainer_api.train_jobs[NAME]["metadata"]["ownerReferences"]
    assert owner["name"] == "second-try"
    trainer_api.delete_pod(LAUNCHER)
    assert NAME in trainer_api.train_jobs
    trainer_api.delete_pod("second-try")
    assert trainer_api.train_jobs == {}


@pytest.mark.parametrize(
    ("found", "micro_batches"),
    [(GpuMemoryError("GPU 0 is full."), [1]), (BatchMemoryError("2 rows do not fit."), [1, 2])],
)
def test_a_node_whose_gpu_is_full_is_waited_for_or_gets_fewer_rows_at_once(
    launch: Launch,
    trainer_api: TrainerApi,
    controllers: Any,
    monkeypatch: pytest.MonkeyPatch,
    found: GradsiftError,
    micro_batches: list[int],
) -> None:
    monkeypatch.setenv(outages.VARIABLE, "60")
    storage = open_storage(launch.uri)

    def is_full() -> None:
        for rank, error in [(0, TrainingError("The peer is gone.")), (1, found)]:
            content = {"time": rank, **failure_of(error)}
            storage.write(f"failures/{rank}.json", json.dumps(content).encode())
        fails(trainer_api)()

    def has_room() -> None:
        storage.write(f"results/{launch.job.folder.name}/{RESULT}", b'{"made": "later"}')
        completes(trainer_api)()

    created = controllers(is_full, has_room)
    scratch = launch.scratch.with_name(Path(launch.uri).name)
    with track_step("meta_training", launch.root, {}) as tracker:
        assert train([launch.job], scratch, tracker, launcher_on(RESOURCES)) == [{"made": "later"}]
    assert len(created) == 2
    asked = [json.loads(storage.read(key))["jobs"][0] for key in storage.keys("jobs-")]
    assert sorted(job["micro_batches"] for job in asked) == micro_batches


def test_a_failed_job_of_an_earlier_try_is_replaced(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    trainer_api.deletion_looks = 3
    storage = open_storage(launch.uri)
    said = {"time": 0, **failure_of(TrainingError("It is too hot."))}

    def life() -> None:
        storage.write("failures/0.json", json.dumps(said).encode())
        storage.write("logs/0.log", b"hot")
        fails(trainer_api)()

    created = controllers(life, completes(trainer_api))
    assert "It is too hot (events" in str(launch.fails())
    launch.run()
    assert len(created) == 2
    assert storage.keys("failures/") == storage.keys("logs/") == []


def test_a_job_on_something_else_is_replaced(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    created = controllers(completes(trainer_api), completes(trainer_api))
    launch.run()
    launch.run()
    assert len(created) == 1, "the completed job is found again"
    with track_step("meta_training", launch.root, {}) as tracker:
        run_train_job([launch.job], launch.uri, launch.scratch, tracker, {**RESOURCES, "cpu": "9"})
    assert len(created) == 2
    assert created[0]["metadata"]["annotations"] != created[1]["metadata"]["annotations"]


def test_a_job_that_another_try_creates_at_the_same_moment_is_adopted(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    created = controllers(completes(trainer_api), completes(trainer_api))
    launch.run()
    payload = launch.scratch / "payload.json"
    payload.write_text(json.dumps(created[0]))
    trainer_api.delete_train_job(NAME)
    first_look = trainer_api._look_at

    def look_then_lose_the_race(name: str) -> Thing:
        trainer_api._look_at = first_look  # type: ignore[method-assign]
        trainer_api._create(json.loads(payload.read_text()))
        return trainer_api._get({}, "trainjobs", name)

    trainer_api._look_at = look_then_lose_the_race  # type: ignore[method-assign]
    launch.run()
    assert len(created) == 2
    assert trainer_api.requests.count(f"POST {JOBS}") == 2
    assert trainer_api.requests.count(f"PATCH {JOBS}/{NAME}") == 1


def test_a_job_that_somebody_deletes_is_a_failure(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    controllers(lambda: trainer_api.delete_train_job(NAME))
    assert str(launch.fails()) == (f"TrainJob {NAME} was deleted while it trained; run the pipeline again.")


def test_a_batch_that_all_processes_cannot_share_is_refused_first(
    launch: Launch, trainer_api: TrainerApi
) -> None:
    recipe = TrainingRecipe(steps=4, batch_size=6, nodes=2)
    launch.job = TrainingJob(launch.job.folder, launch.job.data, ["a"], ModelConfig(), recipe)
    assert str(launch.fails()) == "Parameter train_batch_size is 6: expected a multiple of the 4 processes."
    assert trainer_api.requests == []


def test_what_a_run_left_is_deleted_by_its_label(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    controllers(fails(trainer_api))
    launch.fails()
    assert delete_train_jobs("run-2") == []
    assert delete_train_jobs("run-1") == [NAME]
    assert trainer_api.train_jobs == {}
    assert delete_train_jobs("run-1") == []


def test_sigterm_deletes_the_job(
    launch: Launch, trainer_api: TrainerApi, controllers: Any, in_cluster: Cluster
) -> None:
    controllers(lambda: trainer_api.set_condition(NAME, "Suspended"))
    step = start(launch, in_cluster)
    wait_until(lambda: f"GET {JOBS}/{NAME}" in trainer_api.requests[-3:] and NAME in trainer_api.train_jobs)
    step.send_signal(signal.SIGTERM)
    assert step.wait(timeout=60) == 128 + signal.SIGTERM
    assert trainer_api.train_jobs == {}
