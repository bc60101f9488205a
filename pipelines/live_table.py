"""The live table of a run: one line a step with its state, time, progress and key numbers."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gradsift.components.shared.parameters.pipeline_settings import defaults
from gradsift.components.shared.records.planning import CALIBRATION, COMPARISONS, FINALISTS, SCOPE_SWEEP
from gradsift.components.shared.records.source_clusters import SOURCE_CLUSTERS
from gradsift.components.shared.tracking.event_log import PIPELINE
from gradsift.components.shared.tracking.run_record import PREFLIGHT

STEPS = {
    "preflight": "preflight",
    "data_preparation": "prepare data",
    "meta_training": "meta-train",
    "gradient_extraction": "extract gradients",
    "subset_estimation": "estimate subsets",
    "target_finetuning": "fine-tune target",
    "evaluation": "evaluate",
}
FRESHNESS, PROMOTION = "freshness", "promotion"
"""Rows of what is done where a model is to be registered: is there anything new, and is it the best so far?"""
CHOICE = "choice"
"""Row of the choice among trained subsets, where there is one."""
NAMES = {
    **STEPS,
    FRESHNESS: "look for news",
    PROMOTION: "promote model",
    SOURCE_CLUSTERS: "cut sources",
    CALIBRATION: "fine-tune first",
    FINALISTS: "fine-tune finalists",
    CHOICE: "choose",
    SCOPE_SWEEP: "choose layers",
    COMPARISONS: "fine-tune others",
    "true_losses_base": "fine-tune truly",
    "true_losses_meta": "... from theta*",
}
KEY_NUMBERS = {
    "data_preparation": {"tasks": "{:.0f} tasks", "train_rows": "{:,.0f} train rows"},
    "meta_training": {"train_loss": "loss {:.3f}"},
    "gradient_extraction": {"rows": "{:,.0f} rows", "bytes": "{:,.0f} bytes"},
    SOURCE_CLUSTERS: {"clusters": "{:,.0f} clusters"},
    CALIBRATION: {"runs": "{:.0f} runs"},
    "subset_estimation": {
        "subsets_estimated": "{:,.0f} subsets",
        "estimated_loss": "estimated loss {:.3f}",
    },
    FINALISTS: {"runs": "{:.0f} runs"},
    CHOICE: {"true_loss": "true loss {:.3f}"},
    "target_finetuning": {"train_loss": "loss {:.3f}"},
    COMPARISONS: {"runs": "{:.0f} runs"},
    "evaluation": {
        "test_accuracy": "accuracy {:.1%}",
        "test_numeric_match": "numeric match {:.1%}",
        "test_rouge_l": "ROUGE-L {:.1%}",
        "test_loss": "loss {:.3f}",
    },
    PROMOTION: {"score": "score {:.1%}", "champion_score": "champion's {:.1%}"},
}
MARKS = {"finished": ("✓", "green"), "reused": ("✓", "cyan"), "failed": ("✗", "red")}


@dataclass
class StepState:
    """What is known of one step, from its event log.

    Attributes:
        status: `waiting`, `running`, `finished`, `reused` or `failed`.
        started: unix time at which the (last try of the) step began.
        seconds: how long it took, once it has ended.
        progress: the last progress event since the start.
        numbers: the latest value of every metric.
        error: why it failed, in a sentence.
        input_error: whether the user can put that right.
        outputs: what the step said of its outputs, file name (or "model") -> address.
    """

    status: str = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    error: str = ""
    input_error: bool = False
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)

    def apply(self, event: dict[str, Any]) -> None:
        """Take one event into account."""
        kind = event["event"]
        if kind == "start":
            self.status, self.started, self.progress, self.error = "running", event["time"], {}, ""
        elif kind == "progress":
            self.progress = event
        elif kind == "metric":
            self.numbers |= event["values"]
        elif kind in {"artifact", "model"}:
            self.outputs[event.get("name", "model")] = {"uri": event["uri"], "digest": event["digest"]}
        elif kind == "end":
            self.status, self.seconds = event["status"], event.get("seconds", 0.0)
            self.error, self.input_error = event.get("error", ""), event.get("input_error", False)


def read_states(events: Mapping[str, list[dict[str, Any]]], since: float = 0.0) -> dict[str, StepState]:
    """Return the state of every step, from the events recorded since a unix time.

    The cut of sources, runs before the choice, a choice of layers and promotion are steps of their own only in a
    run that asks for them. In one that has found nothing new, the steps after that are left out.
    """
    confirms = _parameter(events, "confirm_runs", defaults()["confirm_runs"]) > 0
    calibrates = confirms or _parameter(events, "calibrate_runs", 0) > 0
    scopes, rates = (_parameter(events, f"fine_tune_{name}", []) for name in ("scopes", "rates"))
    sweeps = len(scopes) > 1 or len(rates) > 1
    registers = bool(_parameter(events, "promote_model_name", ""))
    states = {}
    for step in STEPS:
        if step == "subset_estimation" and _parameter(events, "extract_cluster_sources", 0) > 0:
            states[SOURCE_CLUSTERS] = state_of(events.get(SOURCE_CLUSTERS, []), since)
        if step == "subset_estimation" and calibrates:
            states[CALIBRATION] = _fine_tuning_runs(events, CALIBRATION, since)
        if step == "target_finetuning" and confirms:
            finalists = state_of(events.get(FINALISTS, []), since)
            if finalists.status != "waiting" or CHOICE not in events:  # there may be no more subsets
                states[FINALISTS] = finalists
            states[CHOICE] = state_of(events.get(CHOICE, []), since)
        if step == "target_finetuning" and sweeps:
            states[SCOPE_SWEEP] = state_of(events.get(SCOPE_SWEEP, []), since)
        if step == "evaluation":
            states[COMPARISONS] = _fine_tuning_runs(events, COMPARISONS, since)
        states[step] = state_of(events.get(step, []), since)
        if step == "data_preparation" and registers:
            states[FRESHNESS] = state_of(events.get(FRESHNESS, []), since)
            if found_nothing_new(states):
                return states
    if registers:
        states[PROMOTION] = state_of(events.get(PROMOTION, []), since)
    return states


def found_nothing_new(states: Mapping[str, StepState]) -> bool:
    """Say whether the run ended early, as its data and settings are those of a registered model."""
    freshness = states.get(FRESHNESS, StepState())
    return freshness.status == "finished" and freshness.numbers.get("changed") == 0


def state_of(events: list[dict[str, Any]], since: float = 0.0) -> StepState:
    """Return the state of one step, from its events since a unix time."""
    state = StepState()
    for event in events:
        if event["time"] >= since:
            state.apply(event)
    return state


def _parameter(events: Mapping[str, list[dict[str, Any]]], name: str, default: Any) -> Any:
    """Return a parameter of the pipeline run, as the run or, on Kubeflow, its first step recorded it."""
    log = events.get(PIPELINE) or events.get(PREFLIGHT, [])
    starts = [event for event in log if event["event"] == "start"]
    found = starts[-1]["params"].get(name) if starts else None
    return found if isinstance(found, int | float if isinstance(default, int) else type(default)) else default


def _begun_parts(events: Mapping[str, list[dict[str, Any]]], step: str, since: float) -> dict[str, StepState]:
    """Return the states of a step's parts that have begun, by the names of their logs."""
    states = {name: state_of(log, since) for name, log in events.items() if name.startswith(f"{step}-")}
    return {name: state for name, state in states.items() if state.status != "waiting"}


def _fine_tuning_runs(events: Mapping[str, list[dict[str, Any]]], purpose: str, since: float) -> StepState:
    """Return one state for the plan of fine-tuning runs (`calibration-plan`) and their groups (`calibration-0`)."""
    groups = _begun_parts(events, purpose, since)
    plan = groups.pop(f"{purpose}-plan", StepState())
    for state in (plan, *groups.values()):
        if state.status == "failed":
            return state
    if plan.status == "waiting":
        return plan
    ended = [state for state in groups.values() if state.status in MARKS]
    last = max((state.started + state.seconds for state in ended), default=plan.started)
    merged = StepState("running", started=plan.started, seconds=last - plan.started)
    merged.numbers["runs"] = sum(state.numbers.get("runs", 0) for state in ended)
    groups_planned = plan.numbers.get("groups", 0.0)
    total = int(groups_planned) if math.isfinite(groups_planned) else 0
    merged.progress = {"done": len(ended), "total": total, "unit": "groups", "time": last}
    if total == 1:
        merged.progress = next((state.progress for state in groups.values()), {})
    if ended and len(ended) == total:
        merged.status = "reused" if all(state.status == "reused" for state in ended) else "finished"
    return merged


def render(states: dict[str, StepState], began: float) -> Group:
    """Draw the table; `began` is the unix time at which the command was started."""
    table = Table.grid(padding=(0, 2))
    for step, state in states.items():
        table.add_row(*_row(step, state))
    return Group(table, Text(f"{_clock(time.time() - began)} in all", style="dim"))


def summary_lines(states: dict[str, StepState]) -> list[str]:
    """Return one plain line a step that has ended, for output that is not a terminal."""
    return [
        f"{state.status:8} {_clock(state.seconds):>6}  {NAMES[step]:18} {_numbers(step, state)}".rstrip()
        for step, state in states.items()
        if state.status in MARKS
    ]


def progress_text(state: StepState) -> str:
    """Return the progress of a step that runs, its rate and the time left; empty where it has recorded none."""
    progress = state.progress
    if not progress or progress["done"] <= 0:
        return ""
    rate = progress["done"] / max(progress["time"] - state.started, 1e-9)
    left = (progress["total"] - progress["done"]) / rate
    return f"{progress['done']:,}/{progress['total']:,} {progress['unit']}, {rate:.1f}/s, {_clock(left)} left"


def _row(step: str, state: StepState) -> list[Any]:
    name = NAMES[step]
    if state.status == "waiting":
        return [Text("·", style="dim"), Text(name, style="dim"), "", "", ""]
    if state.status == "running":
        clock = _clock(time.time() - state.started)
        return [Spinner("dots", style="yellow"), Text(name, style="bold"), clock, *_progress(step, state)]
    mark, style = MARKS[state.status]
    note = "reused" if state.status == "reused" else ""
    detail = Text(state.error, style="red") if state.error else Text(_numbers(step, state))
    return [Text(mark, style=style), name, _clock(state.seconds), Text(note, style="cyan"), detail]


def _progress(step: str, state: StepState) -> list[Any]:
    numbers = _numbers(step, state)
    text = progress_text(state)
    if not text:
        return ["", Text(numbers, style="dim")]
    bar = ProgressBar(total=state.progress["total"], completed=state.progress["done"], width=20)
    return [bar, Text(f"{text}  {numbers}".rstrip(), style="dim")]


def _numbers(step: str, state: StepState) -> str:
    return ", ".join(
        form.format(state.numbers[name])
        for name, form in KEY_NUMBERS.get(step, {}).items()
        if name in state.numbers
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
