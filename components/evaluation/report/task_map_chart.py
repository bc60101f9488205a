"""The report's map of the tasks: a pure function from coordinates to inline SVG.

A group of tasks has a colour and a shape of its own, so that neither is needed to tell two groups apart.
"""

from collections.abc import Collection
from dataclasses import dataclass

from markupsafe import Markup

from gradsift.components.evaluation.report.charts import axis_over
from gradsift.components.evaluation.report.labels import BESIDE, Area, point_labels
from gradsift.components.shared.records.selection_results import TaskMap

COLOURS = 6
SHAPES = (
    "M0-5A5 5 0 1 1 0 5A5 5 0 1 1 0-5Z",  # circle
    "M-4.5-4.5H4.5V4.5H-4.5Z",  # square
    "M0-6L5.5 4.5H-5.5Z",  # triangle
    "M0-6.5L5 0L0 6.5L-5 0Z",  # diamond
    "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",  # plus
)
"""Outlines around 0. Their number and that of the colours have no common divisor: 30 groups differ."""

MANY_TASKS = 14
NARROW, WIDE = Area(0, 0, 320, 260), Area(0, 0, 640, 400)
MARGIN, LABEL_ROOM = 14.0, 70.0  # around the points, and to their right


@dataclass(frozen=True)
class _Spot:
    task: str
    x: float
    y: float
    cluster: int
    words: str
    chosen: bool
    target: bool


def is_wide(task_map: TaskMap) -> bool:
    """Say whether the map needs more than the width of a phone."""
    return len(task_map.tasks) > MANY_TASKS


def cluster_sign(cluster: int, *, solid: bool = True) -> Markup:
    """Return a group's sign: an outline around 0, to be put into a drawing."""
    return Markup('<path d="{}" class="spot {} colour-{}"/>').format(
        SHAPES[cluster % len(SHAPES)], "solid" if solid else "hollow", cluster % COLOURS
    )


def cluster_key(cluster: int) -> Markup:
    """Return a group's sign as a drawing of its own, to stand beside the group's name."""
    return Markup(
        '<svg class="key" viewBox="-8 -8 16 16" aria-hidden="true" focusable="false">{}</svg>'
    ).format(cluster_sign(cluster))


def task_map_chart(task_map: TaskMap, selected: Collection[str]) -> Markup:
    """Return the map, the target ringed, the selected tasks filled.

    Where labels find no room, the target's and those of selected tasks come first.

    Args:
        task_map: the tasks, the target first.
        selected: the chosen ones.
    """
    view = WIDE if is_wide(task_map) else NARROW
    spots = _spots(task_map, selected, view)
    by_need = sorted(spots, key=lambda spot: (not spot.target, not spot.chosen))
    groups = len(set(task_map.cluster))
    return Markup(
        '<svg class="task-map" viewBox="0 0 {width} {height}"{style} role="img"'
        ' aria-labelledby="task-map-title task-map-text"><title id="task-map-title">Map of the tasks</title>'
        '<desc id="task-map-text">{tasks} tasks in {groups} groups, which are listed beside the map.</desc>'
        "{parts}</svg>"
    ).format(
        width=view.right,
        height=view.bottom,
        style=Markup(' style="min-width:{}px"').format(view.right) if view is WIDE else "",
        tasks=len(spots),
        groups=groups,
        parts=Markup("").join(
            [
                point_labels([(spot.words, spot.x, spot.y) for spot in by_need], view, BESIDE),
                *(_mark(spot) for spot in reversed(by_need)),
            ]
        ),
    )


def _spots(task_map: TaskMap, selected: Collection[str], view: Area) -> list[_Spot]:
    x_axis, y_axis = axis_over(task_map.x), axis_over(task_map.y)
    width, height = view.right - MARGIN - LABEL_ROOM, view.bottom - 2 * MARGIN
    columns = (task_map.tasks, task_map.x, task_map.y, task_map.cluster)
    return [
        _Spot(
            task=task,
            x=round(MARGIN + x_axis.percent(x) / 100 * width, 1),
            y=round(MARGIN + (1 - y_axis.percent(y) / 100) * height, 1),
            cluster=cluster,
            words=f"{task} (target)" if number == 0 else task,
            chosen=task in selected,
            target=number == 0,
        )
        for number, (task, x, y, cluster) in enumerate(zip(*columns, strict=True))
    ]


def _mark(spot: _Spot) -> Markup:
    ring = Markup('<circle r="9" class="target-ring"/>') if spot.target else Markup("")
    state = "" if spot.target else ", chosen" if spot.chosen else ", left out"
    return Markup('<g transform="translate({} {})"><title>{}{}, group {}</title>{}{}</g>').format(
        spot.x,
        spot.y,
        spot.words,
        state,
        spot.cluster + 1,
        ring,
        cluster_sign(spot.cluster, solid=spot.chosen or spot.target),
    )
