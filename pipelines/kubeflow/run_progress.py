"""How far a run on Kubeflow is: by what its steps record under the run root, else by the API's task details.

Past 1 MiB of workflow status the API's task details freeze, and they never say why a step failed. So they count
only where the run root cannot be read from this machine.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from kfp_server_api import V2beta1Run

from gradsift.components.shared.errors import GradsiftError
from gradsift.components.shared.tracking.event_log import PIPELINE
from gradsift.components.shared.tracking.run_record import step_events
from gradsift.pipelines.kubeflow.objects import CompiledPipeline
from gradsift.pipelines.live_table import NAMES, progress_text, read_states, state_of, summary_lines

FINISHED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
"""States of a run, and of a task in the API's details, that are its last."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: number of steps that have ended well.
        running: the steps that run, name -> progress and time left, empty where the step records none.
        ended: one line per step that has ended.
        failed: names of the steps that failed, as far as is known.
        error: message of the step that failed first; empty where none is known.
        note: why this comes from the API, and how sure it is; empty where it comes from the steps' record.
    """

    done: int
    running: dict[str, str]
    failed: list[str]
    ended: list[str] = field(default_factory=list)
    error: str = ""
    note: str = ""


class RunProgress:
    """Looks at one run, again and again."""

    def __init__(self, pipeline: CompiledPipeline) -> None:
        self._pipeline = pipeline
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._unreadable = ""

    def look(self, run: V2beta1Run) -> Progress:
        """Return how far the run is, given what the API has just answered about it."""
        root = _run_root(run, self._pipeline)
        if run.state != "PENDING" and not self._unreadable:
            self._read(root, run.run_id)
        progress = _by_the_api(run, self._pipeline.tasks)
        if self._events:
            return _by_the_record(self._events, progress.failed)
        if not (self._unreadable or progress.done or run.state in FINISHED):
            return progress  # The first step may not have begun yet.
        cause = self._unreadable or f"the steps have recorded nothing in {root} as it is seen from here."
        return replace(progress, note=_note(run, self._pipeline.tasks, cause))

    def _read(self, root: str, run_id: str) -> None:
        """Read the record again; one that was read before and is out of reach for a while stays as it was."""
        try:
            self._events = step_events(root, run_id)
        except GradsiftError as error:
            if not self._events:
                self._unreadable = str(error)


def _run_root(run: V2beta1Run, pipeline: CompiledPipeline) -> str:
    given = (run.runtime_config and run.runtime_config.parameters) or {}
    return str({**pipeline.defaults, **given}["output_uri"])


def _by_the_record(events: dict[str, list[dict[str, Any]]], failed_tasks: list[str]) -> Progress:
    states = read_states(events)
    logs = {step: state_of(log) for step, log in events.items() if step != PIPELINE}
    failed = [step for step, state in logs.items() if state.status == "failed"]
    first = min(failed, key=lambda step: logs[step].started + logs[step].seconds, default=None)
    # A step that was killed has recorded no end.
    cut_short = failed_tasks or [step for step, state in logs.items() if state.status == "running"]
    return Progress(
        done=sum(state.status in {"finished", "reused"} for state in states.values()),
        running={
            NAMES[step]: progress_text(state) for step, state in states.items() if state.status == "running"
        },
        failed=[first] if first else cut_short,
        ended=summary_lines(states),
        error=logs[first].error if first else "",
    )


def _by_the_api(run: V2beta1Run, tasks: set[str]) -> Progress:
    running = [name for name in _names(run, {"RUNNING"}) if name in tasks]
    done = [name for name in _names(run, {"SUCCEEDED", "SKIPPED"}) if name in tasks and name not in running]
    # A task's driver, which prepares its inputs, fails before the task is there.
    failed = dict.fromkeys(name.removesuffix("-driver") for name in _names(run, {"FAILED"}))
    return Progress(len(done), dict.fromkeys(running, ""), [name for name in failed if name in tasks])


def _note(run: V2beta1Run, tasks: set[str], cause: str) -> str:
    open_tasks = [name for name in _names(run, {"PENDING", "RUNNING"}) if name in tasks]
    if run.state == "SUCCEEDED" and open_tasks:
        counts = f"its counts are incomplete, as it has no end of {', '.join(open_tasks)}"
    else:
        counts = "its counts may be incomplete"
    return f"Progress is taken from Kubeflow's API and {counts}: {cause}"


def _names(run: V2beta1Run, states: set[str]) -> list[str]:
    """Return the names of the workflow's nodes in some states, once each, in order.

    Only some of them are tasks: the API lists drivers, executors and loops too, and `name(1)` for a second try.
    """
    details = (run.run_details and run.run_details.task_details) or []
    names = (detail.display_name or "" for detail in details if detail.state in states)
    return list(dict.fromkeys(re.sub(r"\([\d:,]+\)$", "", name) for name in names))
