"""The report of a run: one self-contained HTML file, without scripts, links or fonts from elsewhere."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from gradsift.components.evaluation.report import charts, report_words
from gradsift.components.evaluation.report.charts import axis_over
from gradsift.components.evaluation.report.estimates import compared_runs, points_of
from gradsift.components.evaluation.report.report_explanations import ends_of, explanations_of
from gradsift.components.evaluation.report.report_groups import groups_of
from gradsift.components.evaluation.report.report_health import health_of
from gradsift.components.evaluation.report.report_kernel import agreement_words, kernel_of
from gradsift.components.evaluation.report.report_layers import layer_words, layers_of
from gradsift.components.evaluation.report.report_periods import periods_of
from gradsift.components.evaluation.report.report_sampling import sampling_of
from gradsift.components.evaluation.report.scatter import scatter
from gradsift.components.evaluation.report.task_map_chart import cluster_key
from gradsift.components.shared.metrics.lds import rank_agreement
from gradsift.components.shared.records.evaluation_results import LOSS, Confusion, Evaluation, Interval
from gradsift.components.shared.records.group_results import GroupReport
from gradsift.components.shared.records.kernel_report import KernelReport
from gradsift.components.shared.records.metric_names import metric_words
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule
from gradsift.components.shared.records.scope_sweep import ScopeSweep
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.records.source_clusters import SourceClusters

FOLDER = Path(__file__).parent
HEAT_LEVELS = 6
SPLITS = ("train", "val", "test")
STYLES = ("report.css", "report_charts.css")
CHARTS = (
    charts.axis_labels,
    charts.bar_row,
    charts.interval_row,
    charts.path_row,
    charts.share_bar,
    cluster_key,
)
FILTERS = (
    report_words.named,
    metric_words,
    report_words.wrappable,
    report_words.percent,
    report_words.percent_range,
    report_words.points,
    report_words.points_range,
    report_words.nats,
    report_words.nats_range,
    report_words.signed_nats,
    report_words.signed_nats_range,
    report_words.correlation,
    report_words.count,
    report_words.duration,
    report_words.moment,
    report_words.setting,
    report_words.ordinal,
    report_words.difference_words,
    report_words.calibration_words,
    report_words.trust_words,
    report_words.member_words,
    report_words.cost_words,
    agreement_words,
    layer_words,
)


class RunFacts(BaseModel):
    """Which run the report is of.

    Attributes:
        run_id: the pipeline run's id.
        created: when the report was made.
        base_model: what was fine-tuned.
        suite: the task suite.
        max_length: largest number of tokens that were read of a row.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    created: datetime
    base_model: str
    suite: str
    max_length: int


class ReportContent(BaseModel):
    """Everything the report shows.

    Attributes:
        selection: what the estimation step chose.
        evaluation: what that bought.
        kernel: whether fine-tuning kept to first order, where that was measured.
        statistics: one entry per task on its data, as in `statistics.json` of the prepared data: `task`,
            `role`, `rows` (by split), `labels` (by name), `words` (`median`, `p95`), `removed` (by split and
            reason), `cut` (by split, None for an encoder), `corruption`, `licence`, and of rows that have them
            `groups` (`largest` by group, `others`) and `times` (`first`, `last`). What else is missing is shown
            as not known.
        settings: step -> parameter -> value.
        versions: library -> version.
        seconds: step -> how long it took.
        run: which run it was.
        sweep: which layers were tried, if several were.
        clusters: what sources were cut into, if they were.
        schedule: how meta-training drew its rows, where a sampler decided that.
        groups: how the models treat two groups of test rows, where these are compared.
    """

    model_config = ConfigDict(frozen=True)

    selection: Selection
    evaluation: Evaluation
    kernel: KernelReport | None = None
    statistics: list[dict[str, Any]]
    settings: dict[str, dict[str, Any]]
    versions: dict[str, str]
    seconds: dict[str, float]
    run: RunFacts
    sweep: ScopeSweep | None = None
    clusters: SourceClusters | None = None
    schedule: SamplingSchedule | None = None
    groups: GroupReport | None = None


def render_report(content: ReportContent) -> str:
    """Return the report as one HTML page, every text from the run escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    environment.globals |= {function.__name__: function for function in CHARTS}
    template = environment.get_template("report.html.j2")
    prompts = any(entry.get("cut") for entry in content.statistics)
    return template.render(
        css=Markup("").join(Markup((FOLDER / name).read_text(encoding="utf-8")) for name in STYLES),
        run=content.run,
        versions=content.versions,
        settings=content.settings,
        seconds=content.seconds,
        seconds_axis=axis_over(content.seconds.values(), with_zero=True),
        **_choice(content),
        **explanations_of(content.selection),
        **health_of(content.selection),
        **kernel_of(content.kernel),
        **layers_of(content.evaluation, content.sweep),
        **sampling_of(content.schedule),
        **groups_of(content.groups),
        **periods_of(content.schedule, content.selection.selected),
        **_methods(content.selection),
        **_measured(content.evaluation),
        **_estimated_and_true(content),
        prompts=prompts,
        clusters=content.clusters,
        statistics=[
            _statistics(entry, prompts)
            for entry in sorted(content.statistics, key=lambda entry: entry.get("role") != "target")
        ],
    )


def _choice(content: ReportContent) -> dict[str, Any]:
    """The headline, and the chosen and left-out sources with what was done to them on purpose."""
    selection = content.selection
    offered = selection.auxiliary_tasks
    return {
        "selection": selection,
        "confirmation": selection.confirmation,
        "headline": report_words.headline(selection, content.evaluation),
        "chosen": [task for task in offered if task in selection.selected],
        "left_out": [task for task in offered if task not in selection.selected],
        "corruptions": {
            entry["task"]: report_words.named(entry["corruption"])
            for entry in content.statistics
            if entry.get("corruption") and entry.get("task") in offered
        },
    }


def _methods(selection: Selection) -> dict[str, Any]:
    """Selection methods and baselines, the lowest estimate first."""
    methods = sorted(selection.methods, key=lambda method: method.estimated_loss)
    ends = [end for method in methods for end in ends_of(method.estimated_loss, method.standard_error)]
    gaps = all(method.estimated_gap is not None for method in methods)
    return {"methods": methods, "method_axis": axis_over(ends), "method_gaps": gaps}


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    """Test metrics and differences, those that are drawn with their axes, and the confusion matrix."""
    differences = evaluation.difference_to
    share = evaluation.primary
    models = [*evaluation.models, *([evaluation.all_layers.model] if evaluation.all_layers else [])]
    shares = [end for model in models for end in _bounds(model.test[share])]
    shares += [run.test[share] for model in models for run in model.runs]
    return {
        "evaluation": evaluation,
        "starting_model": report_words.starting_model(evaluation.start),
        "share": share,
        "other_shares": [name for name in evaluation.shares if name != share],
        "share_axis": axis_over(shares, label_scale=100),
        "differences": {difference.name: difference for difference in differences},
        "share_difference_axis": axis_over(
            (end for difference in differences for end in _bounds(difference.test[share])),
            with_zero=True,
            label_scale=100,
        ),
        "loss_difference_axis": axis_over(
            (end for difference in differences for end in _bounds(difference.test[LOSS])), with_zero=True
        ),
        "confusion": None if evaluation.confusion is None else _heat_map(evaluation.confusion),
    }


def _estimated_and_true(content: ReportContent) -> dict[str, Any]:
    """The chart of all fine-tuning runs, how well estimates rank them, and the models' ranks by each."""
    selection, models = content.selection, content.evaluation.models
    points = points_of(selection, content.evaluation)
    calibration = selection.calibration
    chart = scatter(
        "models",
        points,
        x_title="Estimated loss (nats)",
        y_title="True loss (nats)",
        description="; ".join(
            f"{point.label}: estimated {point.x:.4f}, true {point.y:.4f}"
            if point.label
            else f"run of {point.tooltip}"
            for point in points
        ),
        diagonal=selection.calibrated,
        noise=(calibration.noise if calibration else None) or 0.0,
    )
    by_estimate = _ranks([model.estimated_loss for model in models])
    by_truth = _ranks([model.true_val_loss for model in models])
    return {
        "scatter": chart,
        "agreement": rank_agreement(compared_runs(selection, content.evaluation)),
        "ranked": list(zip(models, by_estimate, by_truth, strict=True)),
    }


def _heat_map(confusion: Confusion) -> list[tuple[str, list[tuple[int, float, int]]]]:
    """Return for each true label its cells: the count, its share of the label's rows, its heat."""
    rows = []
    for label, counts in zip(confusion.labels, confusion.matrix, strict=True):
        shares = [number / max(1, sum(counts)) for number in counts]
        heats = [round(HEAT_LEVELS * share) for share in shares]
        rows.append((label, list(zip(counts, shares, heats, strict=True))))
    return rows


def _statistics(entry: dict[str, Any], prompts: bool) -> dict[str, Any]:
    """Return a task's row of the data table: numbers by column, of prompts too; None where one is not known."""
    rows, words = entry.get("rows") or {}, entry.get("words") or {}
    labels, removed, cut = entry.get("labels"), entry.get("removed"), entry.get("cut")
    return {
        "task": entry.get("task", ""),
        "role": entry.get("role"),
        "licence": entry.get("licence"),
        "groups": entry.get("groups"),
        "times": entry.get("times"),
        "numbers": [
            *(rows.get(split) for split in SPLITS),
            None if labels is None else len(labels),
            words.get("median"),
            words.get("p95"),
            _removed(removed, "duplicate"),
            _removed(removed, "in_test", "in_val_or_test"),
            *([_removed(removed, "too_long"), sum(cut.values()) if cut else None] if prompts else []),
        ],
    }


def _removed(removed: dict[str, dict[str, int]] | None, *reasons: str) -> int | None:
    if removed is None:
        return None
    return sum(split.get(reason, 0) for split in removed.values() for reason in reasons)


def _ranks(values: Sequence[float]) -> list[int]:
    """Return each value's place, the lowest first; equal values share one."""
    return [1 + sum(other < value for other in values) for value in values]


def _bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.low, interval.mean, interval.high
