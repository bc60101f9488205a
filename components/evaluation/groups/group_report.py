"""`fairness.json`: the group metrics of every compared model with intervals, and what a limit on them cost."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradsift.components.evaluation.answers.answered_runs import AnsweredRun, AnsweredRuns
from gradsift.components.evaluation.groups.group_scores import GroupScores, group_scores
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.two_groups import target_groups
from gradsift.components.shared.metrics.held_out_metrics import (
    MIN_ROWS,
    bootstrap_metrics,
    interval,
    metrics,
)
from gradsift.components.shared.metrics.scores import Metrics
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.records.evaluation_results import Difference, Interval
from gradsift.components.shared.records.group_results import (
    UNLIMITED,
    GroupModel,
    GroupReport,
    LimitedTraining,
)
from gradsift.components.shared.records.selection_results import Selection


def group_report(
    fairness: FairnessConfig,
    config: EvaluationConfig,
    data: PreparedData,
    selection: Selection,
    answered: AnsweredRuns,
    training: LimitedTraining | None,
) -> GroupReport:
    """Return how every compared model treats the groups of the target's test rows.

    Args:
        fairness: the group, the favourable label and the limit.
        config: how intervals are made.
        data: the prepared data.
        selection: names the compared subsets, the chosen one first.
        answered: the runs.
        training: how the chosen model was trained under a limit; None where it was trained without one.

    Raises:
        InputError: the groups of the target's rows cannot be compared, or a comparison has no runs.
    """
    groups = target_groups(fairness, data, "test")
    right = np.array(data.split(data.target, "test")["label"][:])

    def scores(runs: Sequence[AnsweredRun]) -> list[GroupScores]:
        return [
            group_scores(run.answers, right, groups.positive, groups.members, fairness.space) for run in runs
        ]

    runs = {name: answered.on(subset) for name, subset in selection.comparisons.items()}
    if answered.without_limit:
        runs[UNLIMITED] = answered.without_limit
    scored = {name: scores(same) for name, same in runs.items()}
    sampled = {name: bootstrap_metrics(each, config.bootstrap, config.seed) for name, each in scored.items()}
    models = [_model(name, same, scored[name], sampled[name]) for name, same in runs.items()]
    chosen, *others = models
    unlimited = next((model for model in others if model.name == UNLIMITED), None)
    rows = {value: int((groups.members == value).sum()) for value in (0, 1)}
    return GroupReport(
        group=fairness.group,
        positive=fairness.positive,
        limit=fairness.limit,
        space=fairness.space,
        start=answered.settings.start,
        group_rows=rows[1],
        other_rows=rows[0],
        rows_without_group=len(right) - rows[0] - rows[1],
        models=models,
        cost=None if unlimited is None else _difference(chosen, unlimited, sampled),
        training=training,
        warnings=[*_few_rows(fairness.group, rows), *_one_label(models)],
    )


def _model(
    name: str, runs: Sequence[AnsweredRun], scores: Sequence[GroupScores], sampled: Metrics
) -> GroupModel:
    each = [metrics(one) for one in scores]
    means = {metric: float(np.mean([one[metric] for one in each])) for metric in sampled}
    given = [len(np.unique(one.favoured)) for one in scores]
    return GroupModel(
        name=name,
        subset=runs[0].record.subset,
        test={
            metric: _interval(mean, sampled[metric]) for metric, mean in means.items() if np.isfinite(mean)
        },
        labels_given=min(given),
    )


def _difference(chosen: GroupModel, other: GroupModel, sampled: Mapping[str, Metrics]) -> Difference:
    """Return the chosen model's metrics minus those of another one, by paired bootstrap."""
    return Difference(
        name=other.name,
        test={
            metric: _interval(
                found.mean - other.test[metric].mean,
                sampled[chosen.name][metric] - sampled[other.name][metric],
            )
            for metric, found in chosen.test.items()
        },
    )


def _interval(mean: float, samples: np.typing.NDArray[np.float64]) -> Interval:
    """Return the interval over the bootstrap samples in which the metric is defined."""
    return interval(mean, samples[np.isfinite(samples)])


def _few_rows(group: str, rows: Mapping[int, int]) -> Iterator[str]:
    for words, count in ((f"group {group!r}", rows[1]), ("other groups", rows[0])):
        if count < MIN_ROWS:
            yield (
                f"Only {count} test rows are of {words}, where {MIN_ROWS} are needed: its shares and gaps are a "
                "hint at most."
            )


def _one_label(models: Sequence[GroupModel]) -> Iterator[str]:
    for model in models:
        if model.labels_given == 1:
            yield (
                f"A run of the model {model.name!r} gives every test row the same label: it has no gaps because it "
                "decides nothing."
            )
