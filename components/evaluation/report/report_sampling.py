"""What the report says of meta-training's sampler: which sources were trained on, and why others were not."""

from dataclasses import dataclass
from typing import Any

from gradsift.components.evaluation.report.charts import axis_over
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule


@dataclass(frozen=True)
class SampledTask:
    """One row of the table.

    Attributes:
        task: the task.
        share: of all rows that meta-training drew; rounds are equally long.
        adapted: loss of held-out rows over the entropy of the labels before the first round; None where unknown.
        fate: in which rounds it was trained on, or why not.
    """

    task: str
    share: float
    adapted: float | None
    fate: str


def sampling_of(schedule: SamplingSchedule | None) -> dict[str, Any]:
    """Return the template's values; without a sampler that chooses sources its part is left out."""
    if schedule is None or schedule.sampler != "derts":
        return {"sampled": None}
    rows = [_sampled(task, schedule) for task in schedule.rounds[0].shares]
    rows.sort(key=lambda row: -row.share)
    sources = [row for row in rows if row.task != schedule.target]
    return {
        "sampled": rows,
        "sampled_axis": axis_over((row.share for row in rows), with_zero=True, label_scale=100),
        "sampled_with_labels": any(row.adapted is not None for row in rows),
        "sampling_words": (
            f"Meta-training drew rows of the target and of {sum(row.share > 0 for row in sources)} of "
            f"{len(sources)} sources. Before each of its {len(schedule.rounds)} rounds it looked at a few rows of "
            "every source, and chose those whose gradients represent the others'. The share of each is "
            "proportional to the number of tasks that it represents. The sampler does not ask which sources "
            "help the target."
        ),
    }


def _sampled(task: str, schedule: SamplingSchedule) -> SampledTask:
    rounds = schedule.rounds
    return SampledTask(
        task,
        sum(each.shares[task] for each in rounds) / len(rounds),
        rounds[0].adapted.get(task),
        _fate(task, schedule),
    )


def _fate(task: str, schedule: SamplingSchedule) -> str:
    if task == schedule.target:
        return "target, in every round"
    trained = [number for number, each in enumerate(schedule.rounds, 1) if each.shares[task] > 0]
    if trained:
        return f"trained on in {_rounds(trained)}"
    dropped = [number for number, each in enumerate(schedule.rounds, 1) if task in each.dropped]
    if len(dropped) == len(schedule.rounds):
        return "left out: its labels are among those learned worst"
    return "represented by others"


def _rounds(numbers: list[int]) -> str:
    first, *others = map(str, numbers)
    return f"rounds {', '.join([first, *others[:-1]])} and {others[-1]}" if others else f"round {first}"
