"""The report's scatter charts: a pure function from points to inline SVG, drawn for the width of a phone.

A chart is 320 units wide, so that its text keeps its size on a phone and grows a little on a desk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradsift.components.evaluation.report.charts import Axis, axis_over
from gradsift.components.evaluation.report.labels import Area, point_labels, segment, text

SCATTER_WIDTH, SCATTER_HEIGHT = 320, 290
PLOT = Area(left=44, top=26, right=304, bottom=246)


@dataclass(frozen=True)
class Point:
    """A point of a scatter chart.

    Attributes:
        label: the words beside it; `""` for none.
        x: in the units of the horizontal axis.
        x_error: half the length of its error bar; 0 for none.
        y: in the units of the vertical axis.
        y_error: half the length of its error bar; 0 for none.
        strong: whether this is the point to look at.
        tooltip: more words, shown when it is pointed at.
    """

    label: str
    x: float
    x_error: float
    y: float
    y_error: float
    strong: bool = False
    tooltip: str = ""


def scatter(
    name: str,
    points: Sequence[Point],
    *,
    x_title: str,
    y_title: str,
    description: str,
    diagonal: bool,
    noise: float = 0.0,
) -> Markup:
    """Return a scatter chart with error bars both ways and a label at each point.

    Args:
        name: tells the charts of one page apart.
        points: what to draw, any number.
        x_title: words under the horizontal axis.
        y_title: words over the vertical axis.
        description: what the chart shows, for screen readers.
        diagonal: whether both axes are the same, with the line where both values are equal.
        noise: half the height of a band around that line; 0 for none.
    """
    x_axis, y_axis = _axes(points, shared=diagonal, noise=noise)
    parts = [
        _frame(x_axis, y_axis, x_title, y_title),
        _noise_band(x_axis, noise) if diagonal and noise else Markup(""),
        segment(PLOT.left, PLOT.bottom, PLOT.right, PLOT.top, "equal") if diagonal else Markup(""),
        point_labels([(point.label, _x(x_axis, point.x), _y(y_axis, point.y)) for point in points], PLOT),
        *(_mark(x_axis, y_axis, point) for point in points),
    ]
    return Markup(
        '<svg class="scatter" viewBox="0 0 {width} {height}" role="img"'
        ' aria-labelledby="{name}-chart-title {name}-chart-text">'
        '<title id="{name}-chart-title">{y_title} against {x_title}</title>'
        '<desc id="{name}-chart-text">{description}</desc>{parts}</svg>'
    ).format(
        width=SCATTER_WIDTH,
        height=SCATTER_HEIGHT,
        name=name,
        y_title=y_title,
        x_title=x_title,
        description=description,
        parts=Markup("").join(parts),
    )


def _axes(points: Sequence[Point], *, shared: bool, noise: float) -> tuple[Axis, Axis]:
    x_ends = [end for point in points for end in (point.x - point.x_error, point.x + point.x_error)]
    y_ends = [end for point in points for end in (point.y - point.y_error, point.y + point.y_error)]
    if not shared:
        return axis_over(x_ends), axis_over(y_ends)
    ends = x_ends + y_ends
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    axis = axis_over([low, high, low + noise])
    return axis, axis


def _x(axis: Axis, value: float) -> float:
    return round(PLOT.left + axis.percent(value) / 100 * (PLOT.right - PLOT.left), 1)


def _y(axis: Axis, value: float) -> float:
    return round(PLOT.bottom - axis.percent(value) / 100 * (PLOT.bottom - PLOT.top), 1)


def _frame(x_axis: Axis, y_axis: Axis, x_title: str, y_title: str) -> Markup:
    parts = []
    for tick in x_axis.ticks:
        x = _x(x_axis, tick)
        parts.append(segment(x, PLOT.top, x, PLOT.bottom, "grid"))
        parts.append(text(x, PLOT.bottom + 16, "tick middle", x_axis.tick_label(tick)))
    for tick in y_axis.ticks:
        y = _y(y_axis, tick)
        parts.append(segment(PLOT.left, y, PLOT.right, y, "grid"))
        parts.append(text(PLOT.left - 8, y + 4, "tick end", y_axis.tick_label(tick)))
    parts.append(text(PLOT.right, SCATTER_HEIGHT - 8, "axis-title end", f"{x_title} →"))
    parts.append(text(4, 12, "axis-title", f"↑ {y_title}"))
    return Markup("").join(parts)


def _noise_band(axis: Axis, noise: float) -> Markup:
    """Return what lies within `noise` of the diagonal, as far as the plot reaches."""
    low, high = axis.low, axis.high
    corners = [
        (low, low),
        (low + noise, low),
        (high, high - noise),
        (high, high),
        (high - noise, high),
        (low, low + noise),
    ]
    places = " ".join(f"{_x(axis, x)},{_y(axis, y)}" for x, y in corners)
    return Markup('<polygon points="{}" class="noise"/>').format(places)


def _mark(x_axis: Axis, y_axis: Axis, point: Point) -> Markup:
    x, y = _x(x_axis, point.x), _y(y_axis, point.y)
    left, right = _x(x_axis, point.x - point.x_error), _x(x_axis, point.x + point.x_error)
    bottom, top = _y(y_axis, point.y - point.y_error), _y(y_axis, point.y + point.y_error)
    tooltip = Markup("<title>{}</title>").format(point.tooltip) if point.tooltip else Markup("")
    circle = Markup('<circle cx="{}" cy="{}" r="5" class="dot {}">{}</circle>').format(
        x, y, "strong" if point.strong else "weak", tooltip
    )
    across = segment(left, y, right, y, "error") if point.x_error else Markup("")
    up = segment(x, bottom, x, top, "error") if point.y_error else Markup("")
    return across + up + circle
