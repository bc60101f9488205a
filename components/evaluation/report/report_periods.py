"""What the report says of a sampler over time: how often past periods were drawn, and how they agree with now."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from gradsift.components.evaluation.report.charts import axis_over
from gradsift.components.shared.parameters.data import SEPARATOR
from gradsift.components.shared.parameters.sampling import OVER_TIME
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule


@dataclass(frozen=True)
class SampledPeriod:
    """One row of the table.

    Attributes:
        task: the task.
        period: the period that it is of; None where it has none.
        share: of the rows that the last round drew.
        cosine: mean over the rounds of the cosine of its gradient and the target's; None where it was not measured.
        earlier: what this was in the earlier schedule; None where it is not in one.
        chosen: whether the final model is trained on it, or on a part of it.
        fate: the same in words.
    """

    task: str
    period: str | None
    share: float
    cosine: float | None
    earlier: float | None
    chosen: bool
    fate: str


def periods_of(schedule: SamplingSchedule | None, selected: Collection[str]) -> dict[str, Any]:
    """Return the template's values; without a sampler over past periods its part is left out.

    Args:
        schedule: how meta-training drew its rows.
        selected: the sources that the final model is trained on.
    """
    if schedule is None or schedule.sampler not in OVER_TIME:
        return {"periods": None}
    last, cosines = schedule.rounds[-1].shares, schedule.mean_cosines
    earlier = {} if schedule.earlier is None else schedule.earlier.cosines
    rows = [
        SampledPeriod(
            task,
            schedule.periods.get(task),
            share,
            cosines.get(task),
            earlier.get(task),
            *_fate(task, schedule, selected),
        )
        for task, share in last.items()
    ]
    rows.sort(key=lambda row: (row.period is not None, row.period or "", row.task))
    return {
        "periods": rows,
        "periods_axis": axis_over((row.share for row in rows), with_zero=True, label_scale=100),
        "periods_with_cosines": bool(cosines),
        "periods_with_earlier": bool(earlier),
        "periods_words": _words(schedule, rows),
    }


def _fate(task: str, schedule: SamplingSchedule, selected: Collection[str]) -> tuple[bool, str]:
    if task == schedule.target:
        return True, "target"
    if task in selected:
        return True, "chosen"
    parts = sum(name.startswith(f"{task}{SEPARATOR}") for name in selected)
    return parts > 0, f"{parts} of its parts chosen" if parts else "left out"


def _words(schedule: SamplingSchedule, rows: list[SampledPeriod]) -> str:
    selection = "“Selection” is what the estimates made of each period as a source."
    if schedule.sampler == "recency":
        return (
            "Meta-training drew rows less often the older their period: by age alone, whatever they teach. "
            f"{selection}"
        )
    return (
        f"Before each of {len(schedule.rounds)} rounds, meta-training measured how far the gradients of each "
        "source agree with those of the target's train rows (“Agreement”, the mean cosine), and drew rows of the "
        f"sources in proportion to it. {_begun(schedule)}{_most_drawn(schedule, rows)} {selection}"
    )


def _begun(schedule: SamplingSchedule) -> str:
    if schedule.earlier is None:
        return ""
    return (
        f"It began with the schedule of {schedule.earlier.origin} (“Before”), which counts as one round more; a "
        "source that it did not have counts by the rounds alone. "
    )


def _most_drawn(schedule: SamplingSchedule, rows: list[SampledPeriod]) -> str:
    if max(schedule.mean_cosines.values()) <= 0:
        return "No source agreed, so rows were drawn by size."
    now = schedule.periods[schedule.target]
    past = [row for row in rows if row.period is not None and row.period < now]
    most, newest = max(past, key=lambda row: row.share), max(row.period or "" for row in past)
    begun = (
        "This is the newest one, with which recency would have begun too."
        if most.period == newest
        else f"Recency would have begun with {newest}."
    )
    return f"The past period that it drew most often is {most.task}. {begun}"
