"""The report's scatter chart: a pure function from points to inline SVG, drawn for the width of a phone.

It is 320 units wide, so that its text keeps its size on a phone and grows a little on a desk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradsift.components.evaluation.charts import Axis, axis_over

SCATTER_WIDTH, SCATTER_HEIGHT = 320, 290
PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM = 44, 304, 26, 246
LETTER_WIDTH, LINE_HEIGHT, LONGEST_LABEL = 7.0, 14.0, 24
LABEL_OFFSETS = (-18.0, 4.0, -32.0, 18.0, 32.0, -46.0, 46.0, -60.0)  # of a label's top from its point


@dataclass(frozen=True)
class Point:
    """A labelled point of the scatter chart, with half the length of its error bars."""

    label: str
    x: float
    x_error: float
    y: float
    y_error: float
    strong: bool = False


def scatter(
    points: Sequence[Point], *, x_title: str, y_title: str, description: str, diagonal: bool
) -> Markup:
    """Return a scatter chart with error bars both ways and a label at each point.

    Args:
        points: what to draw, any number.
        x_title: words under the horizontal axis.
        y_title: words over the vertical axis.
        description: what the chart shows, for screen readers.
        diagonal: whether both axes are the same, with the line where both values are equal.
    """
    x_axis, y_axis = _axes(points, shared=diagonal)
    parts = [
        _frame(x_axis, y_axis, x_title, y_title),
        _segment(PLOT_LEFT, PLOT_BOTTOM, PLOT_RIGHT, PLOT_TOP, "equal") if diagonal else Markup(""),
        *(_mark(x_axis, y_axis, point) for point in points),
        _labels(x_axis, y_axis, points),
    ]
    return Markup(
        '<svg class="scatter" viewBox="0 0 {} {}" role="img" aria-labelledby="scatter-title scatter-text">'
        '<title id="scatter-title">{} against {}</title><desc id="scatter-text">{}</desc>{}</svg>'
    ).format(SCATTER_WIDTH, SCATTER_HEIGHT, y_title, x_title, description, Markup("").join(parts))


def _axes(points: Sequence[Point], *, shared: bool) -> tuple[Axis, Axis]:
    x_ends = [end for point in points for end in (point.x - point.x_error, point.x + point.x_error)]
    y_ends = [end for point in points for end in (point.y - point.y_error, point.y + point.y_error)]
    if shared:
        return axis_over(x_ends + y_ends), axis_over(x_ends + y_ends)
    return axis_over(x_ends), axis_over(y_ends)


def _plot_x(axis: Axis, value: float) -> float:
    return round(PLOT_LEFT + axis.percent(value) / 100 * (PLOT_RIGHT - PLOT_LEFT), 1)


def _plot_y(axis: Axis, value: float) -> float:
    return round(PLOT_BOTTOM - axis.percent(value) / 100 * (PLOT_BOTTOM - PLOT_TOP), 1)


def _segment(x1: float, y1: float, x2: float, y2: float, css_class: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(x1, y1, x2, y2, css_class)


def _text(x: float, y: float, css_class: str, words: str) -> Markup:
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(x, y, css_class, words)


def _frame(x_axis: Axis, y_axis: Axis, x_title: str, y_title: str) -> Markup:
    parts = []
    for tick in x_axis.ticks:
        x = _plot_x(x_axis, tick)
        parts.append(_segment(x, PLOT_TOP, x, PLOT_BOTTOM, "grid"))
        parts.append(_text(x, PLOT_BOTTOM + 16, "tick middle", x_axis.tick_label(tick)))
    for tick in y_axis.ticks:
        y = _plot_y(y_axis, tick)
        parts.append(_segment(PLOT_LEFT, y, PLOT_RIGHT, y, "grid"))
        parts.append(_text(PLOT_LEFT - 8, y + 4, "tick end", y_axis.tick_label(tick)))
    parts.append(_text(PLOT_RIGHT, SCATTER_HEIGHT - 8, "axis-title end", f"{x_title} →"))
    parts.append(_text(4, 12, "axis-title", f"↑ {y_title}"))
    return Markup("").join(parts)


def _mark(x_axis: Axis, y_axis: Axis, point: Point) -> Markup:
    x, y = _plot_x(x_axis, point.x), _plot_y(y_axis, point.y)
    left, right = _plot_x(x_axis, point.x - point.x_error), _plot_x(x_axis, point.x + point.x_error)
    bottom, top = _plot_y(y_axis, point.y - point.y_error), _plot_y(y_axis, point.y + point.y_error)
    circle = Markup('<circle cx="{}" cy="{}" r="5" class="dot {}"/>').format(
        x, y, "strong" if point.strong else "weak"
    )
    return _segment(left, y, right, y, "error") + _segment(x, bottom, x, top, "error") + circle


def _labels(x_axis: Axis, y_axis: Axis, points: Sequence[Point]) -> Markup:
    """Put each label at the first free place around its point, with a line to it where that is far."""
    centres = [(_plot_x(x_axis, point.x), _plot_y(y_axis, point.y)) for point in points]
    taken = [_Area(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    leaders, texts = [], []
    for point, (x, y) in zip(points, centres, strict=True):
        label = point.label if len(point.label) <= LONGEST_LABEL else point.label[: LONGEST_LABEL - 1] + "…"
        area = _free_area(x, y, LETTER_WIDTH * len(label), taken)
        taken.append(area)
        edge, css_class = (area.right, "label end") if area.right < x else (area.left, "label")
        if not area.top - LINE_HEIGHT < y < area.bottom + LINE_HEIGHT:
            nearest = (min(max(x, area.left), area.right), min(max(y, area.top), area.bottom))
            leaders.append(_segment(x, y, *nearest, "leader"))
        texts.append(_text(edge, area.bottom - 4, css_class, label))
    return Markup("").join(leaders + texts)


@dataclass(frozen=True)
class _Area:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "_Area") -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def _free_area(x: float, y: float, width: float, taken: Sequence[_Area]) -> _Area:
    places = [_inside(x + dx, y + dy, width) for dy in LABEL_OFFSETS for dx in (7.0, -7.0 - width)]
    return next((place for place in places if not any(place.overlaps(area) for area in taken)), places[0])


def _inside(left: float, top: float, width: float) -> _Area:
    """Return the area of a line of text, moved into the plot where it sticks out."""
    left = round(max(PLOT_LEFT, min(left, PLOT_RIGHT - width)), 1)
    top = round(max(PLOT_TOP, min(top, PLOT_BOTTOM - LINE_HEIGHT)), 1)
    return _Area(left, top, round(left + width, 1), round(top + LINE_HEIGHT, 1))
