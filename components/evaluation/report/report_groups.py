"""What the report says of the groups: every model's gaps, the path of the multipliers, and what the limit cost."""

from collections.abc import Sequence
from typing import Any

from gradsift.components.evaluation.report.charts import axis_over
from gradsift.components.evaluation.report.report_words import (
    difference_words,
    named,
    percent,
    points,
    points_range,
    signed_nats,
)
from gradsift.components.evaluation.report.scatter import Point, scatter
from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.group_results import UNLIMITED, DualStep, GroupModel, GroupReport

SHARES = ("accuracy", "accuracy_group", "accuracy_others", "favoured_group", "favoured_others")
GAPS = ("parity_gap", "true_positive_gap", "false_positive_gap")
MAX_PATH_ROWS = 9
ACCURACY_WORDS = {
    "better": "is more accurate than without it",
    "worse": "is less accurate than without it",
    "no clear difference": "is not clearly more or less accurate than without it",
}


def groups_of(report: GroupReport | None) -> dict[str, Any]:
    """Return the template's values; without a report its part is left out."""
    if report is None:
        return {"groups": None}
    path = [] if report.training is None else _thinned(report.training.path)
    drawn = [model for model in report.models if "covariance" in model.test]
    return {
        "groups": report,
        "group_shares": SHARES,
        "group_gaps": GAPS,
        "group_cost": _cost_words(report),
        "group_trade_off": _trade_off(drawn),
        "dual_path": path,
        "dual_axis": axis_over((end for each in path for end in (each.upper, each.lower)), with_zero=True),
    }


def _thinned(path: Sequence[DualStep]) -> list[DualStep]:
    """Return at most `MAX_PATH_ROWS` evenly spread steps, with the first and the last."""
    last, rows = len(path) - 1, min(len(path), MAX_PATH_ROWS)
    return [path[round(last * row / max(rows - 1, 1))] for row in range(rows)]


def _cost_words(report: GroupReport) -> str | None:
    """Return what the limit changed on the test rows, compared with the same training without it."""
    other = report.unlimited
    if report.cost is None or other is None:
        return None
    accuracy = report.cost.test["accuracy"]
    effect = ACCURACY_WORDS[difference_words(accuracy, more_is_better=True)]
    parts = [f"With the limit the model {effect} ({points(accuracy.mean)} points, {points_range(accuracy)})"]
    for name, words, write in (
        ("covariance", "covariance", signed_nats),
        ("parity_gap", "parity gap", points),
    ):
        if name in report.cost.test:
            with_limit, without = (write(model.test[name].mean) for model in (report.chosen, other))
            parts.append(f"its {words} is {with_limit} instead of {without}")
    return f"{'; '.join(parts)}."


def _trade_off(models: Sequence[GroupModel]) -> Any:
    """Return the chart of accuracy against covariance; the models with and without the limit are named first."""
    first = (models[0].name, UNLIMITED)
    spots = [
        Point(
            label=named(model.name),
            x=model.test["covariance"].mean,
            x_error=_half(model.test["covariance"]),
            y=100 * model.test["accuracy"].mean,
            y_error=100 * _half(model.test["accuracy"]),
            strong=model is models[0],
        )
        for model in sorted(models, key=lambda model: model.name not in first)
    ]
    words = "; ".join(
        f"{named(model.name)}: covariance {signed_nats(model.test['covariance'].mean)}, "
        f"accuracy {percent(model.test['accuracy'].mean)}"
        for model in models
    )
    return scatter(
        "groups",
        spots,
        x_title="Covariance",
        y_title="Accuracy, percent",
        description=words,
        diagonal=False,
    )


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2
