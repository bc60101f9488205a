"""A training in a step's own process, which a test kills and starts again."""

import json
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import EVENTS, LOG

STEP = """
    import json, sys
    from pathlib import Path
    from gradsift.components.shared.tracking.tracking import track_step
    from gradsift.components.shared.training.job import TrainingJob
    from gradsift.components.shared.training.training import train

    scratch = Path(sys.argv[1])
    job = TrainingJob.from_json(json.loads((scratch / "job.json").read_text()))
    with track_step("meta_training", str(scratch / "root"), {}) as tracker:
        train([job], scratch, tracker)
"""


class InterruptedTraining:
    """A training in a step's process, to be stopped at a random moment after its next checkpoint."""

    def __init__(self, job: TrainingJob, scratch: Path) -> None:
        self.scratch = scratch
        self.checkpoints = scratch / "checkpoints" / job.folder.name
        scratch.mkdir()
        (scratch / "job.json").write_text(json.dumps(job.to_json()))

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", textwrap.dedent(STEP), str(self.scratch)]
        with (self.scratch / "errors").open("wb") as errors:
            return subprocess.Popen(command, stderr=errors, start_new_session=True)

    def newest_checkpoint(self) -> int:
        return newest_checkpoint(self.checkpoints)

    def run_past_next_checkpoint(self) -> "subprocess.Popen[bytes]":
        before = self.newest_checkpoint()
        process = self.start()
        wait_until(lambda: self.newest_checkpoint() > before or process.poll() is not None, 600)
        time.sleep(random.uniform(0, 0.3))
        assert process.poll() is None, (self.scratch / LOG).read_text()
        return process

    def processes(self) -> list[int]:
        """Return the ids of the living processes that belong to this training."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command, state = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
            except OSError:
                continue
            if str(self.scratch).encode() in command and state.rpartition(")")[2].split()[0] != "Z":
                found.append(int(folder.name))
        return found

    def first_step_done(self) -> int:
        step: int = json.loads((self.scratch / EVENTS).read_text().splitlines()[0])["done"]
        return step


def newest_checkpoint(folder: Path) -> int:
    """Return the step of the newest whole checkpoint of a job; 0 where there is none."""
    steps = [int(path.parent.name.split("-")[1]) for path in folder.glob("checkpoint-*/whole")]
    return max(steps, default=0)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.05)
