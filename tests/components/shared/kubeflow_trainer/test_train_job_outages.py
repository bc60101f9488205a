"""A launcher whose cluster answers late, in parts or not at all, seen by the real Kubernetes client."""

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from doubles.trainer_api_double import LAUNCHER, TrainerApi
from doubles.trainer_api_server import Cluster
from launched_step import NAME, Launch, completes, completes_now, event, fails
from waiting import wait_until

from gradsift.components.shared.kubeflow_trainer import kubernetes_api
from gradsift.components.shared.kubeflow_trainer.kubernetes_api import KubernetesError


def test_the_api_may_be_down_for_a_while(
    launch: Launch, trainer_api: TrainerApi, controllers: Any, cluster: Cluster, in_cluster: Cluster
) -> None:
    outages: list[str] = []

    def life() -> None:
        first, second = trainer_api.start_nodes(NAME)
        trainer_api.say(first, event(1, 3.0))
        trainer_api.faults += [503, 500, 429, 504, None, 502]
        wait_until(lambda: not trainer_api.faults)
        outages.append("faults")
        trainer_api.say(first, event(2, 2.0))
        completes_now(trainer_api, first, second)

    controllers(life)
    launch.run()
    assert outages == ["faults"]
    assert [values["train_loss"] for values in launch.metrics()] == [3.0, 2.0]


def test_the_server_may_be_gone_and_come_back(
    s3_root: str,
    cluster: Cluster,
    trainer_api: TrainerApi,
    controllers: Any,
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as first_time:
        first_time.enter_context(cluster.up())
        for name, value in cluster.environment(LAUNCHER).items():
            monkeypatch.setenv(name, value)
        launch = Launch(s3_root, tmp_path / "work", data)

        def life() -> None:
            first, second = trainer_api.start_nodes(NAME)
            trainer_api.say(first, event(1, 3.0))
            wait_until(lambda: len([each for each in trainer_api.requests if each.endswith("/log")]) > 0)
            first_time.close()
            trainer_api.say(first, event(1, 2.5))
            time.sleep(0.7)
            with cluster.up():
                completes_now(trainer_api, first, second)
                wait_until(lambda: ended.is_set())

        ended = threading.Event()
        controllers(life)
        try:
            launch.run()
        finally:
            ended.set()
    assert [values["train_loss"] for values in launch.metrics()] == [3.0, 2.5]


def test_an_api_that_stays_away_is_one_sentence(
    launch: Launch, trainer_api: TrainerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_api.KubernetesApi.call, "__kwdefaults__", {"patience": 0.3})
    trainer_api.faults += [503] * 100
    error = launch.fails()
    assert str(error) == (
        f"The Kubernetes API at https://127.0.0.1:{os.environ['KUBERNETES_SERVICE_PORT']} answered 503: "
        "the server is currently unable to handle the request."
    )


def test_a_token_that_expires_is_read_again(
    launch: Launch,
    trainer_api: TrainerApi,
    controllers: Any,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once: the client itself reads it again after a minute."""
    monkeypatch.setattr(kubernetes_api.KubernetesApi.call, "__kwdefaults__", {"patience": 20.0})

    def life() -> None:
        trainer_api.tokens = {"renewed"}
        time.sleep(0.3)
        (cluster.account / "token").write_text("renewed")
        completes(trainer_api)()

    controllers(life)
    launch.run()
    assert len(launch.metrics()) == 2


def test_a_log_whose_connection_breaks_again_and_again_is_read_once(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    trainer_api.log_breaks = {0, 3, 4, 11, 19}

    def life() -> None:
        first, second = trainer_api.start_nodes(NAME)
        for step in range(20):
            trainer_api.say(first, f"line {step}")
            time.sleep(0.02)
        wait_until(lambda: not trainer_api.log_breaks)
        completes_now(trainer_api, first, second)

    controllers(life)
    launch.run()
    lines = (launch.scratch / "training.log").read_text().splitlines()
    assert lines == [f"line {step}" for step in range(20)]


def test_a_log_that_cannot_be_read_decides_nothing(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    def life() -> None:
        first, second = trainer_api.start_nodes(NAME)
        first["spec"]["containers"][0]["name"] = "renamed"
        trainer_api.say(first, "unreadable", "gradsift-event {broken")
        completes_now(trainer_api, first, second)

    controllers(life)
    launch.run()
    assert (launch.scratch / "training.log").read_text() == ""


def test_listings_come_in_pages_that_may_expire(
    launch: Launch, trainer_api: TrainerApi, controllers: Any
) -> None:
    trainer_api.max_page_size = 1
    trainer_api.expired = True
    controllers(fails(trainer_api))
    assert "node 1 ended with exit code 1" in str(launch.fails())
    assert not trainer_api.expired


def test_a_cluster_without_trainer_is_one_sentence(launch: Launch, trainer_api: TrainerApi) -> None:
    trainer_api.has_trainer = False
    error = launch.fails()
    assert isinstance(error, KubernetesError)
    assert str(error).startswith("The cluster has no TrainJobs: expected Kubeflow Trainer v2 there (")


def test_outside_a_cluster_it_is_one_sentence(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert "expected a pod with a mounted service account token, or parameter nodes to be 1" in str(
        launch.fails()
    )
