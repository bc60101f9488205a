"""Fixtures for what works through a cluster: a double of its API, as a step's pod sees it, and its machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.trainer_api_double import LAUNCHER, LAUNCHER_LABELS, LAUNCHER_SPEC, TrainerApi
from doubles.trainer_api_server import Cluster
from doubles.trainer_nodes import Nodes
from kubernetes.config import incluster_config

from gradsift.components.shared.kubeflow_trainer import train_job, train_job_launch, train_job_log
from gradsift.components.shared.process import outages


@pytest.fixture
def trainer_api() -> TrainerApi:
    """Return the state of a cluster with the launcher's pod."""
    api = TrainerApi()
    api.add_pod(LAUNCHER, LAUNCHER_LABELS, LAUNCHER_SPEC)
    return api


@pytest.fixture
def cluster(trainer_api: TrainerApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return that cluster, not up yet, found by the environment; waiting in it takes little time."""
    account = tmp_path / "account"
    account.mkdir()
    cluster = Cluster(trainer_api, account)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(account / "ca.crt"))
    monkeypatch.setattr(outages, "MAX_DELAY_SECONDS", 0.1)
    monkeypatch.setattr(train_job_launch, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(train_job_log, "RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(train_job, "DELETE_POLL_SECONDS", 0.02)
    return cluster


@pytest.fixture
def in_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Return that cluster, up, with this process as one of the launcher's pod."""
    with cluster.up():
        for name, value in cluster.environment(LAUNCHER).items():
            monkeypatch.setenv(name, value)
        yield cluster


@pytest.fixture
def nodes(trainer_api: TrainerApi, tmp_path: Path) -> Iterator[Nodes]:
    """Return the machines of that cluster."""
    nodes = Nodes(trainer_api, tmp_path / "disks")
    yield nodes
    for process in nodes.processes:
        if process.poll() is None:
            process.terminate()
            process.wait()
