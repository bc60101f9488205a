"""The steps of a fidelity study on this machine: recorded as a run's are, and shown in a live table."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live

from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.tracking.run_record import step_events
from gradsift.components.shared.tracking.tracking import StepTracker, track_step
from gradsift.pipelines.live_table import render, state_of

RUN = "fidelity"
Result = TypeVar("Result")


class LiveStudySteps:
    """Does the steps of a study one after the other, under a live table of those begun (a `StudySteps`)."""

    def __init__(self, root: str, console: Console) -> None:
        self.root = root
        self._began = time.time()
        self._names: dict[str, None] = {}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=2)

    def __enter__(self) -> "LiveStudySteps":
        os.environ["KFP_RUN_ID"] = RUN
        os.environ.setdefault("GRADSIFT_MLFLOW", "off")  # a study is no run of the pipeline
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def do(self, name: str, work: Callable[[StepTracker], Result]) -> Result:
        """Do one step's work and return what it makes."""
        self._names[name] = None
        with track_step(name, self.root, {}) as tracker:
            result = work(tracker)
            if isinstance(result, StepOutput) and result.reused:
                tracker.reused()
            return result

    def seconds(self, *names: str) -> dict[str, float]:
        """Return how long each step took, in the longest of its tries: later ones find its work done."""
        events = step_events(self.root, RUN)
        return {
            name: max(event["seconds"] for event in events[name] if event["event"] == "end") for name in names
        }

    def _table(self) -> Group:
        events = step_events(self.root, RUN)
        states = {name: state_of(events.get(name, []), self._began) for name in self._names}
        return render(states, self._began)
