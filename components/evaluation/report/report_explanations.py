"""What the report's template needs to explain the choice: rows, axes and charts from `selection.json`."""

from typing import Any

from gradsift.components.evaluation.report.charts import axis_over
from gradsift.components.evaluation.report.synergy_chart import (
    largest_synergy,
    strongest_pairs,
    synergy_chart,
)
from gradsift.components.evaluation.report.task_map_chart import is_wide, task_map_chart
from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.selection_results import (
    MethodResult,
    Selection,
    TaskMap,
    TaskScore,
)


def explanations_of(selection: Selection) -> dict[str, Any]:
    """Return the template's values: None or empty where the selection does not hold what they show."""
    scores = sorted(selection.task_scores, key=lambda score: score.score, reverse=True)
    return {
        **_scores(scores),
        **_path(selection),
        "ties": [(tie, *_changes(tie, selection)) for tie in selection.ties],
        "synergy": _synergy(selection, [score.task for score in scores]),
        "task_map": _task_map(selection),
        "calibration": selection.calibration,
    }


def _scores(scores: list[TaskScore]) -> dict[str, Any]:
    """Task scores from best to worst, each with its 95% interval."""
    intervals = [Interval.normal(score.score, score.standard_error) for score in scores]
    ends = [end for interval in intervals for end in (interval.low, interval.high)]
    return {
        "scores": list(zip(scores, intervals, strict=True)),
        "score_axis": axis_over(ends, with_zero=True),
        "with_shares": any(score.share is not None for score in scores),
    }


def _path(selection: Selection) -> dict[str, Any]:
    """Each step of the search with the loss before it, and the number of the step that was chosen.

    A search may go on after the step that is chosen in the end.
    """
    steps = selection.path
    losses = [step.estimated_loss for step in steps]
    chosen = [number for number, step in enumerate(steps) if set(step.subset) == set(selection.selected)]
    ends = [end for step in steps for end in ends_of(step.estimated_loss, step.standard_error)]
    return {
        "path": list(zip(steps, [None, *losses[:-1]], strict=True)) if steps else [],
        "path_axis": axis_over(ends),
        "chosen_step": chosen[-1] if chosen else None,
    }


def ends_of(value: float, error: float) -> tuple[float, float]:
    """Return the ends of an error line."""
    return value - error, value + error


def _changes(tie: MethodResult, selection: Selection) -> tuple[list[str], list[str]]:
    """What a subset has that was not chosen, and what was chosen that it has not."""
    return (
        [task for task in tie.subset if task not in selection.selected],
        [task for task in selection.selected if task not in tie.subset],
    )


def _synergy(selection: Selection, order: list[str]) -> dict[str, Any] | None:
    synergy = selection.synergy
    if synergy is None:
        return None
    helping, redundant = strongest_pairs(synergy)
    return {
        "chart": synergy_chart(synergy, order),
        "full": largest_synergy(synergy),
        "helping": helping,
        "redundant": redundant,
        "shown": len(synergy.tasks),
    }


def _task_map(selection: Selection) -> dict[str, Any] | None:
    task_map = selection.task_map
    if task_map is None:
        return None
    return {
        "chart": task_map_chart(task_map, selection.selected),
        "wide": is_wide(task_map),
        "groups": _groups(task_map),
    }


def _groups(task_map: TaskMap) -> dict[int, list[str]]:
    """Tasks by the number of their group."""
    groups: dict[int, list[str]] = {cluster: [] for cluster in sorted(set(task_map.cluster))}
    for task, cluster in zip(task_map.tasks, task_map.cluster, strict=True):
        groups[cluster].append(task)
    return groups
