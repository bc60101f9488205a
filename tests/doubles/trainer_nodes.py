"""The machines of a cluster: each node of a TrainJob is a process here, as Kubeflow Trainer would start it."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doubles.trainer_api_double import Thing, TrainerApi


class Nodes:
    """The machines of a cluster: runs the command of each TrainJob's nodes, with a disk of their own.

    Attributes:
        lives: how many TrainJobs have started.
        trainers: what each of them asked for its nodes.
        environment: variables that nodes are given beside those of Kubeflow Trainer.
        start: starts a node's process from its command and environment.
        when_started: called with each node's processes, once they run.
    """

    def __init__(self, api: TrainerApi, disks: Path) -> None:
        self.api = api
        self.disks = disks
        self.lives = 0
        self.trainers: list[Thing] = []
        self.environment: dict[str, str] = {}
        self.start: Callable[[list[str], dict[str, str]], Any] = start_process
        self.when_started: Callable[[list[subprocess.Popen[bytes]]], None] = lambda processes: None
        self.processes: list[subprocess.Popen[bytes]] = []
        api.on_create = lambda train_job: threading.Thread(
            target=self._run, args=(train_job,), daemon=True
        ).start()

    def _run(self, train_job: Thing) -> None:
        name = train_job["metadata"]["name"]
        self.lives += 1
        self.trainers.append(train_job["spec"]["trainer"])
        pods = self.api.start_nodes(name)
        processes = self._start(train_job["spec"]["trainer"])
        readers = [
            threading.Thread(target=self._read, args=(pod, process), daemon=True)
            for pod, process in zip(pods, processes, strict=True)
        ]
        for reader in readers:
            reader.start()
        self.when_started(processes)
        for process in processes:
            process.wait()
        for reader in readers:
            reader.join()
        failed = any(process.returncode for process in processes)
        self.api.set_condition(name, "Failed" if failed else "Complete")

    def _start(self, trainer: Thing) -> list["subprocess.Popen[bytes]"]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        started = []
        for rank in range(trainer["numNodes"]):
            disk = self.disks / f"life-{self.lives}" / f"node-{rank}"
            disk.mkdir(parents=True)
            environment = {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
                "TMPDIR": str(disk),
                "OMP_NUM_THREADS": "1",
            }
            command = [sys.executable, *trainer["command"][1:]]
            started.append(self.start(command, {**os.environ, **environment, **self.environment}))
        self.processes += started
        return started

    def _read(self, pod: Thing, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.api.say(pod, line.decode().rstrip("\n"))
        self.api.end_pod(pod, process.wait() % 256)

    def log(self, rank: int) -> str:
        """Return what the node of the last TrainJob printed."""
        (pod,) = [
            pod
            for pod in self.api.pods.values()
            if pod["metadata"]["labels"].get("batch.kubernetes.io/job-completion-index") == str(rank)
        ]
        return "\n".join(text for _, text in self.api.logs[pod["metadata"]["name"]])


def start_process(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a process, whose errors are part of what it prints."""
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
