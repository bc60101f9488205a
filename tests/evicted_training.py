"""Trainings in this process's forks, each evicted at a step as a pod is: with SIGTERM."""

import os
import socket
import sys
from pathlib import Path

from forked_training import ForkedPython

PROGRAM = """
import json, os, pickle, signal, sys
from pathlib import Path
from gradsift.components.shared.training import worker
from gradsift.components.shared.training.events import EventCallback

scratch, stop = Path(sys.argv[1]), int(sys.argv[2])

class Evicted(EventCallback):
    def on_step_begin(self, args, state, control, **_):
        print("step", state.global_step, flush=True)
        if state.global_step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

worker.EventCallback = Evicted
train_one = worker.train_one

def until_evicted(*arguments):
    try:
        train_one(*arguments)
    except SystemExit as ended:
        assert ended.code == 128 + signal.SIGTERM
    except pickle.UnpicklingError as error:
        print(f"UnpicklingError: {error}", flush=True)

worker.train_one = until_evicted
worker.main(scratch, None)
"""
"""Trains the jobs of a scratch folder in this process, each evicted at a step; -1 trains them to their end.
A checkpoint that is refused is printed."""


def train_until(scratch: Path, stop: int) -> str:
    """Run the program on the jobs of a scratch folder, and return what it printed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    process = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    environment = {**os.environ, **process, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    program = ForkedPython([sys.executable, "-c", PROGRAM, str(scratch), str(stop)], environment)
    printed = program.stdout.read().decode()
    assert program.wait() == 0, printed
    return printed
