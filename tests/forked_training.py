"""Training processes that start in a moment: forks of one process that has imported what training needs.

Importing torch, DeepSpeed and Transformers takes longer than a small training. Tests of what a training leaves
use these processes; tests of how it is launched, stopped and killed use those of `torchrun`.
"""

import atexit
import multiprocessing
import os
import runpy
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import TimeoutExpired
from types import SimpleNamespace
from typing import Any

import pytest

from gradsift.components.shared.process.lifeline import hold_lifeline
from gradsift.components.shared.training import processes

PROCESS = "gradsift.components.shared.training.worker_process"
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["gradsift.components.shared.training.worker"])
# What the forks have used is counted with the tests.
atexit.register(forkserver._forkserver._stop)  # type: ignore[attr-defined]


@contextmanager
def forked_training(begin_with: str = "") -> Iterator[None]:
    """Let trainings on this machine run in forks, but not on GPUs, as CUDA does not survive a fork.

    Args:
        begin_with: code that every process runs first; a test that needs it is skipped on GPUs.
    """
    if processes._gpu_count() > 0:
        if begin_with:
            pytest.skip("CUDA does not survive a fork.")
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        starter = SimpleNamespace(Popen=partial(ForkedProcesses, begin_with), TimeoutExpired=TimeoutExpired)
        patch.setattr(processes, "subprocess", starter)
        yield


class ForkedProcesses:
    """The processes that a command of `torchrun` would start, with the part of Popen's interface in use."""

    def __init__(
        self, begin_with: str, command: list[str], stdout: Any, stderr: Any, env: dict[str, str]
    ) -> None:
        [count] = [int(option.split("=")[1]) for option in command if option.startswith("--nproc-per-node=")]
        arguments = command[command.index(PROCESS) + 1 :]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
        group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        self.workers = [
            FORKS.Process(
                target=_work,
                args=(
                    begin_with,
                    stdout.name,
                    {**env, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    *arguments,
                ),
            )
            for rank in range(count)
        ]
        for worker in self.workers:
            worker.start()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return 0 when every process has ended well; end all when one has failed."""
        codes = [worker.exitcode for worker in self.workers]
        if any(codes):
            self.terminate()
            self.wait()
            self.returncode = 1
        elif None not in codes:
            self.returncode = 0
        return self.returncode

    def wait(self, timeout: float | None = None) -> None:
        for worker in self.workers:
            worker.join(timeout)
            if worker.exitcode is None:
                raise TimeoutExpired(PROCESS, timeout or 0.0)

    def terminate(self) -> None:
        for worker in self.workers:
            worker.terminate()

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()


class ForkedPython:
    """What a command with `python -c` or `python -m` would run, with the part of Popen's interface in use.

    Attributes:
        stdout: all that it prints, errors too.
    """

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        reader, writer = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_run, args=(command, env, writer))
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), "rb")
        reader.close()
        self._reading = threading.Lock()  # a second thread would find no exit code
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with self._reading:
            self.returncode = self._process.exitcode
        return self.returncode

    def wait(self) -> int:
        with self._reading:
            self._process.join()
            self.returncode = self._process.exitcode
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        self._process.terminate()


def _work(
    begin_with: str, log: str, environment: dict[str, str], scratch: str, uri: str | None = None
) -> None:
    with Path(log).open("a") as file:
        _become(environment, file.fileno())
    exec(begin_with, {})
    from gradsift.components.shared.training.progress import TrainingProgress
    from gradsift.components.shared.training.worker import main

    hold_lifeline()
    main(Path(scratch), TrainingProgress(uri) if uri else None)


def _run(command: list[str], environment: dict[str, str], output: Connection) -> None:
    _become(environment, output.fileno())
    output.close()
    start = next(index for index, option in enumerate(command) if option in {"-c", "-m"})
    program, *arguments = command[start + 1 :]
    sys.argv = [program, *arguments]
    if command[start] == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(program, {"__name__": "__main__"})


def _become(environment: dict[str, str], output: int) -> None:
    """Take on the environment and output of a process of its own."""
    os.environ.clear()
    os.environ.update(environment)
    for stream in (1, 2):
        os.dup2(output, stream)
    import torch

    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # torch read it when it was imported
