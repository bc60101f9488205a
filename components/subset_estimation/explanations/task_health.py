"""Which sources look suspicious: labels that nothing predicts or that contradict their names, copies, opponents."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from scipy.stats import false_discovery_control, norm

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.linear_model.logistic_regression import logistic_weights
from gradsift.components.shared.linear_model.margins import (
    MIN_ERROR,
    FloatArray,
    cross_entropy,
    linear_margins,
)
from gradsift.components.shared.records.selection_results import HealthFinding, TaskHealth
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.statistics.directions import unit
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics
from gradsift.components.subset_estimation.statistics.threads import in_threads

MAX_ROWS, MIN_ROWS = 2048, 30
"""Train rows of a source that its health is measured on: the first ones, and none of a source with few."""
FALSE_DISCOVERIES = 0.05
"""Expected share of false findings, among the sources that are said to be worse than guessing."""
DUPLICATE, OPPOSED = 0.95, -0.3
"""Cosines of mean gradients above which one task is a copy of another, and below which it pulls against it."""


def task_health(
    store: GradientStore, statistics: TaskStatistics, ridge: Ridge, data: PreparedData
) -> list[TaskHealth]:
    """Return the health of every auxiliary task, in the store's order.

    A source's rows are split into halves at random. Logistic regression on the linear margins of one half,
    sum log(1 + exp(-(b0 + x.w))) + R/2 |w|^2, gives the loss of the other, and the reverse; their mean over the
    entropy of the source's labels says how much of the labels can be learned from the texts. It starts from the
    margins b0 at the base weights, as theta* has seen all rows and knows the labels of some by heart.

    Labels look random where this loss is above that of guessing by more than chance: the model does worse after
    learning from other rows. A loss about equal to that of guessing is no finding, because a source that is too
    hard for the model, or has too few rows, looks the same.

    Args:
        store: the gradient store.
        statistics: its sums.
        ridge: how far fine-tuning moves; R is that of the half's rows.
        data: the prepared data, which has the labels.

    Raises:
        GradientStoreError: the store cannot be read.
    """
    found: list[TaskHealth] = [TaskHealth(task=task, rows=0) for task in statistics.tasks]
    directions = unit(statistics.gradient)

    def examine(index: int) -> None:
        task = statistics.tasks[index]
        measured = _measured(store, task, ridge, data) if data.task(task).labels else {}
        others = np.delete(directions, index, axis=0)
        names = np.delete([*statistics.tasks, statistics.target], index)
        cosines = others @ directions[index]
        nearest, farthest = cosines.argmax(), cosines.argmin()
        found[index] = TaskHealth(
            task=task,
            **{"rows": 0, **measured},
            duplicate_of=str(names[nearest]) if cosines[nearest] > DUPLICATE else None,
            against=str(names[farthest]) if cosines[farthest] < OPPOSED else None,
            agreement=float(unit(others.sum(axis=0)) @ directions[index]),
        )

    in_threads(examine, range(len(statistics.tasks)))
    random = worse_than_guessing([(health.adapted, health.adapted_error) for health in found])
    contradicted = worse_than_guessing([(health.zero_shot, health.zero_shot_error) for health in found])
    return [
        health.model_copy(update={"findings": _findings(health, *worse)})
        for health, *worse in zip(found, random, contradicted, strict=True)
    ]


def _measured(store: GradientStore, task: str, ridge: Ridge, data: PreparedData) -> dict[str, Any]:
    """Return the losses of a classification task's rows over those of guessing, where it has enough rows."""
    parts = list(_first_margins(store, task))
    base, feature = (np.concatenate(part)[:MAX_ROWS] for part in zip(*parts, strict=True))
    label = np.array(data.split(task, "train")[: len(base)]["label"])
    share = (np.bincount(label) / len(label))[label]
    if len(base) < MIN_ROWS or share.min() == 1:
        return {"rows": len(base)}
    half = np.random.default_rng(0).permutation(len(base)) % 2 == 0
    held_out = np.empty(len(base))
    for part in (half, ~half):
        held_out[~part] = _adapted_losses(base, feature, ridge, part)
    adapted, error = _over_guessing(held_out, -np.log(share))
    if (
        store.header.answer != "class"
    ):  # a written label competes with every text, not with other labels alone
        return {"rows": len(base), "adapted": adapted}
    guessing = np.full(len(base), np.log(len(data.task(task).labels)))
    zero_shot, zero_shot_error = _over_guessing(cross_entropy(base), guessing)
    return {
        "rows": len(base),
        "adapted": adapted,
        "adapted_error": error,
        "zero_shot": zero_shot,
        "zero_shot_error": zero_shot_error,
    }


def _over_guessing(loss: FloatArray, guessing: FloatArray) -> tuple[float, float]:
    """Return the ratio of two mean losses over the same rows [n], and the standard error of its distance from 1."""
    scale = float(guessing.mean())
    error = float((loss - guessing).std(ddof=1)) / np.sqrt(len(loss))
    return float(loss.mean()) / scale, error / scale


def _first_margins(store: GradientStore, task: str) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield shards' margins at the base weights [n] and margin gradients [n, d] until there are `MAX_ROWS`."""
    shards = -(-MAX_ROWS // store.header.shard_rows)
    for shard in islice(store.read(task, "train"), shards):
        _, feature = linear_margins(shard.margin, shard.gradient * shard.positions[:, None])
        bound = -logit(MIN_ERROR)
        yield np.clip(shard.base_margin.astype(np.float64), -bound, bound), feature.astype(np.float64)


def _adapted_losses(
    base: FloatArray, feature: FloatArray, ridge: Ridge, half: npt.NDArray[np.bool_]
) -> FloatArray:
    """Return the losses of the other half's rows after logistic regression on this one."""
    strength = float(ridge.of_rows(np.array([half.sum()], np.float64))[0])
    weights = logistic_weights(base[half], feature[half], strength)
    return cross_entropy(base[~half] + feature[~half] @ weights)


def worse_than_guessing(figures: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Return for each source whether its loss is above that of guessing, by more than chance over its rows.

    One-sided tests by the normal distribution, with the false discovery rate of Benjamini and Hochberg (1995), as a
    suite may have hundreds of sources.

    Args:
        figures: ratios of the losses, with the standard errors of their distances from 1, where there are any.
    """
    chances = [
        float(norm.sf(value - 1, scale=error)) if value is not None and error else 1.0
        for value, error in figures
    ]
    adjusted: list[float] = false_discovery_control(chances).tolist()
    return [chance <= FALSE_DISCOVERIES for chance in adjusted]


def _findings(health: TaskHealth, random: bool, contradicted: bool) -> list[HealthFinding]:
    present: dict[HealthFinding, bool] = {
        "random_labels": random,
        "contradicted_labels": contradicted,
        "duplicate": health.duplicate_of is not None,
        "opposed": health.agreement < OPPOSED,
    }
    return [name for name, is_present in present.items() if is_present]
