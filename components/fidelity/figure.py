"""The figure of a fidelity study: LDS beside their ceiling, and estimates against true losses."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from gradsift.components.evaluation.report.charts import Axis, axis_over
from gradsift.components.evaluation.report.labels import segment, text
from gradsift.components.evaluation.report.scatter import SCATTER_HEIGHT, SCATTER_WIDTH, Point, scatter
from gradsift.components.fidelity.results import Fidelity, MethodFidelity, TruthFidelity
from gradsift.components.subset_estimation.estimators.calibration import fit_line

LEFT, RIGHT, TOP, ROW = 190, 440, 40, 18
GAP = 30
WIDTH = RIGHT + GAP + SCATTER_WIDTH
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1d1f24; }
.tick { font-size: 11px; fill: #5a5e68; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.axis-title { font-size: 11px; fill: #5a5e68; }
.title { font-weight: 600; }
.grid { stroke: #ecebe6; }
.equal { stroke: #8b8f99; stroke-dasharray: 4 3; }
.noise { fill: #d9dbe0; opacity: 0.6; }
.error { stroke: #1d1f24; opacity: 0.35; }
.dot.weak { fill: #6f7480; }
.dot.strong { fill: #2b55c4; }
"""


def figure(study: Fidelity) -> str:
    """Return a standalone SVG, one pair of charts a truth."""
    panels, top = [], 0
    for truth in study.truths:
        height = max(TOP + ROW * len(_shown(study, truth)) + 40, SCATTER_HEIGHT + TOP)
        panels.append(Markup('<g transform="translate(0 {})">{}</g>').format(top, _panel(study, truth)))
        top += height
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}">'
            '<style>{2}</style><rect width="{0}" height="{1}" fill="#fff"/>{3}</svg>\n'
        ).format(WIDTH, top, Markup(STYLE), Markup("").join(panels))
    )


def _panel(study: Fidelity, truth: TruthFidelity) -> Markup:
    title = (
        f"{study.target}, truth from the {'base model' if truth.start == 'base' else 'meta-trained model'}"
    )
    chart = Markup('<svg x="{}" y="{}" width="{}" height="{}">{}</svg>').format(
        RIGHT + GAP, TOP - 10, SCATTER_WIDTH, SCATTER_HEIGHT, _scatter(study, truth)
    )
    return text(4, 16, "title", title) + _ranks(study, truth) + chart


def _ranks(study: Fidelity, truth: TruthFidelity) -> Markup:
    """LDS with their intervals, and the ceiling as a band."""
    methods = _shown(study, truth)
    axis = axis_over([*(_low(method) for method in methods), 0.0, 1.0])
    bottom = TOP + ROW * len(methods)
    parts = []
    if truth.ceiling:
        left, right = _x(axis, truth.ceiling.low), _x(axis, truth.ceiling.high)
        band = Markup('<rect x="{}" y="{}" width="{}" height="{}" class="noise"/>')
        parts.append(band.format(left, TOP, round(right - left, 1), bottom - TOP))
        middle = _x(axis, truth.ceiling.repeated)
        parts.append(segment(middle, TOP, middle, bottom, "equal"))
        parts.append(text(right, TOP - 6, "tick end", "noise ceiling"))
    for tick in axis.ticks:
        parts.append(segment(_x(axis, tick), TOP, _x(axis, tick), bottom, "grid"))
        parts.append(text(_x(axis, tick), bottom + 14, "tick middle", axis.tick_label(tick)))
    for row, method in enumerate(methods):
        y = TOP + ROW * (row + 0.5)
        x = _x(axis, method.lds or 0.0)
        parts.append(text(LEFT - 8, y + 4, "end", _name(method)))
        if method.lds_low is not None and method.lds_high is not None:
            parts.append(segment(_x(axis, method.lds_low), y, _x(axis, method.lds_high), y, "error"))
        weight = "weak" if method.kind == "baseline" else "strong"
        parts.append(Markup('<circle cx="{}" cy="{}" r="4" class="dot {}"/>').format(x, y, weight))
    parts.append(text(RIGHT, bottom + 30, "axis-title end", "LDS: rank correlation with the true losses →"))
    return Markup("").join(parts)


def _scatter(study: Fidelity, truth: TruthFidelity) -> Markup:
    """True losses against the default estimates, on the line through all of them."""
    default = next(method for method in truth.methods if study.is_default(method))
    estimates, losses = np.array(default.estimates), np.array(truth.losses)
    calibrated = fit_line(estimates, losses).of(estimates)
    errors = np.array(truth.deviations or [0.0] * len(losses)) / np.sqrt(study.seeds)
    points = [
        Point("", float(x), 0.0, float(y), float(error))
        for x, y, error in zip(calibrated, losses, errors, strict=True)
    ]
    return scatter(
        f"truth-{truth.start}",
        points,
        x_title="calibrated estimate (default)",
        y_title="true loss",
        description="True validation losses of all subsets against their calibrated estimates.",
        diagonal=True,
        noise=truth.ceiling.deviation / np.sqrt(study.seeds) if truth.ceiling else 0.0,
    )


def _shown(study: Fidelity, truth: TruthFidelity) -> Sequence[MethodFidelity]:
    """Estimators with the ridge of the settings, not the best of several in hindsight; the table has all."""
    return [method for method in truth.methods if method.ridge in {None, study.ridge}]


def _name(method: MethodFidelity) -> str:
    name = method.method.replace("_", " ")
    ridge = "" if method.ridge is None else f", ridge {method.ridge:g}"
    return f"{name} ({method.expansion}{ridge})" if method.expansion else name


def _low(method: MethodFidelity) -> float:
    return min(value for value in (method.lds_low, method.lds, 0.0) if value is not None)


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + axis.percent(value) / 100 * (RIGHT - LEFT), 1)
