"""The report's charts in table rows: pure functions from numbers to inline SVG.

Each table row gets a drawing of its own: `x` in percent of the cell's width, `y` in pixels from the row's
middle. So the marks of a column share an axis, rows may grow with long names, nothing shrinks on a phone.
Colours and strokes are in `report.css`, by class.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

MINUS = "\N{MINUS SIGN}"
PADDING = 0.05  # of the span, on either side of the data
NARROWEST = 1e-3  # width of an axis over equal values, relative to 1 or to their size
MIN_TICKS = 3
ROUND_STEPS = (5.0, 2.5, 2.0, 1.0)


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` (0 percent) to `high` (100 percent).

    Attributes:
        low: the value at its start.
        high: the value at its end.
        ticks: the round values between, to be labelled.
        decimals: how many the labels need.
        label_scale: what a value is multiplied with in its label: 100 to write shares in percent.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    decimals: int
    label_scale: float

    def percent(self, value: float) -> float:
        """Return where `value` lies, 0 to 100; what is outside of the axis lies on its end."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def covers(self, value: float) -> bool:
        """Say whether `value` lies on the axis."""
        return self.low <= value <= self.high

    def tick_label(self, tick: float) -> str:
        """Return a tick's label, with a true minus sign."""
        text = f"{abs(tick * self.label_scale):.{self.decimals}f}"
        return MINUS + text if tick < 0 and float(text) != 0 else text


def axis_over(values: Iterable[float], *, with_zero: bool = False, label_scale: float = 1.0) -> Axis:
    """Return an axis over finite `values`, a little wider than they are.

    Args:
        values: what the axis has to cover.
        with_zero: whether zero has to be on it too, as for bars.
        label_scale: see `Axis`.
    """
    covered = [*values, *([0.0] if with_zero else [])] or [0.0]
    low, high = min(covered), max(covered)
    lacking = NARROWEST * max(abs(low), abs(high), 1.0) - (high - low)
    if lacking > 0:
        low, high = low - lacking / 2, high + lacking / 2
    padding = PADDING * (high - low)
    low, high = low - padding, high + padding
    step = _round_step(low, high)
    return Axis(low, high, _multiples(step, low, high), _decimals(step * label_scale), label_scale)


def _round_step(low: float, high: float) -> float:
    """The largest round step with at least `MIN_TICKS` multiples between `low` and `high`."""
    magnitude = 10.0 ** math.floor(math.log10(high - low))
    steps = (step * magnitude * scale for scale in (1.0, 0.1) for step in ROUND_STEPS)
    return next(step for step in steps if len(_multiples(step, low, high)) >= MIN_TICKS)


def _multiples(step: float, low: float, high: float) -> tuple[float, ...]:
    return tuple(step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1))


def _decimals(step: float) -> int:
    return next((count for count in range(10) if math.isclose(step, round(step, count), rel_tol=1e-6)), 10)


def axis_labels(axis: Axis) -> Markup:
    """Return the head of a column of row charts: the values of the axis' ticks."""
    texts = Markup("").join(
        Markup('<text x="{}%" y="11" class="{}">{}</text>').format(
            axis.percent(tick), _anchor(axis.percent(tick)), axis.tick_label(tick)
        )
        for tick in axis.ticks
    )
    return Markup('<svg class="axis" aria-hidden="true" focusable="false">{}</svg>').format(texts)


def bar_row(axis: Axis, value: float, error: float = 0.0, *, solid: bool = True, title: str) -> Markup:
    """Return a bar from zero to `value` with a line from `value - error` to `value + error`.

    Args:
        axis: the column's axis, zero included.
        value: the bar's end.
        error: half the length of the error line; 0 for none.
        solid: filled, or else hollow.
        title: what the row shows, for screen readers and as a tooltip.
    """
    bar = _box(axis, 0.0, value, "bar solid" if solid else "bar hollow", 12)
    ends = (value - error, value + error)
    lines = [_line(axis, *ends, "halo"), _line(axis, *ends, "error")] if error else []
    return _row(axis, title, _upright(axis, 0.0, "zero"), bar, *lines)


def interval_row(
    axis: Axis,
    mean: float,
    low: float,
    high: float,
    *,
    dots: Sequence[float] = (),
    zero: bool = False,
    strong: bool = False,
    title: str,
) -> Markup:
    """Return a band from `low` to `high` with a mark at `mean`.

    Args:
        axis: the column's axis.
        mean: the mark.
        low: the band's start.
        high: the band's end.
        dots: single runs, as small rings.
        zero: whether to draw the zero line.
        strong: whether this is the row to look at.
        title: what the row shows, for screen readers and as a tooltip.
    """
    weight = "strong" if strong else "weak"
    marks = [
        _upright(axis, 0.0, "zero") if zero else Markup(""),
        _box(axis, low, high, f"band {weight}", 8),
        *(_dot(axis, dot, "ring", 2.5) for dot in dots),
        _dot(axis, mean, f"dot {weight}", 5),
    ]
    return _row(axis, title, *marks)


def path_row(
    axis: Axis,
    value: float,
    error: float,
    previous: float | None,
    *,
    chosen: bool = False,
    last: bool = False,
    title: str,
) -> Markup:
    """Return one row of a step chart that runs down the rows.

    Args:
        axis: the column's axis.
        value: the mark, where the line goes down.
        error: half the width of the band.
        previous: the mark of the row above, from where the line comes; None in the first row.
        chosen: whether this is the step to look at.
        last: whether the line ends here.
        title: what the row shows, for screen readers and as a tooltip.
    """
    top, bottom = "50%" if previous is None else "0", "50%" if last else "100%"
    marks = [
        _box(axis, value - error, value + error, "path-band", None),
        Markup("") if previous is None else _line(axis, previous, value, "way", y="0"),
        _upright(axis, value, "way", top, bottom),
        _dot(axis, value, "dot chosen", 7) if chosen else _dot(axis, value, "dot strong", 4),
    ]
    return _row(axis, title, *marks)


def share_bar(share: float) -> Markup:
    """Return a bar as long as a share of 1, to stand under the share's number."""
    return Markup(
        '<svg class="share" aria-hidden="true" focusable="false"><rect width="100%" height="4" class="track"/>'
        '<rect width="{}%" height="4" class="part"/></svg>'
    ).format(round(100 * share, 1))


def _row(axis: Axis, title: str, *marks: Markup) -> Markup:
    grid = (_upright(axis, tick, "grid") for tick in axis.ticks)
    return Markup('<svg class="row" role="img" focusable="false"><title>{}</title>{}</svg>').format(
        title, Markup("").join([*grid, *marks])
    )


def _upright(axis: Axis, value: float, css_class: str, top: str = "0", bottom: str = "100%") -> Markup:
    return Markup('<line x1="{0}%" x2="{0}%" y1="{1}" y2="{2}" class="{3}"/>').format(
        axis.percent(value), top, bottom, css_class
    )


def _line(axis: Axis, start: float, end: float, css_class: str, y: str = "50%") -> Markup:
    return Markup('<line x1="{}%" x2="{}%" y1="{}" y2="{}" class="{}"/>').format(
        axis.percent(start), axis.percent(end), y, y, css_class
    )


def _box(axis: Axis, start: float, end: float, css_class: str, height: int | None) -> Markup:
    """A box between two values: `height` pixels around the row's middle, or the whole row."""
    left, right = sorted((axis.percent(start), axis.percent(end)))
    place = f'y="50%" height="{height}" transform="translate(0 {-height / 2})"' if height else 'height="100%"'
    return Markup('<rect x="{}%" width="{}%" {} class="{}"/>').format(
        left, round(right - left, 2), Markup(place), css_class
    )


def _dot(axis: Axis, value: float, css_class: str, radius: float) -> Markup:
    return Markup('<circle cx="{}%" cy="50%" r="{}" class="{}"/>').format(
        axis.percent(value), radius, css_class
    )


def _anchor(percent: float) -> str:
    if percent < 8:
        return "tick start"
    return "tick end" if percent > 92 else "tick middle"
