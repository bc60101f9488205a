"""Which sources look suspicious: labels that nothing predicts or that contradict their names, copies, opponents."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit

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
RANDOM_LABELS = 1.0
"""Loss over entropy from which labels look random: no better than guessing by their shares."""
CONTRADICTED_LABELS = 1.25
"""Zero-shot loss over that of guessing from which label names contradict the texts; ours."""
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
        health = TaskHealth(
            task=task,
            **{"rows": 0, **measured},
            duplicate_of=str(names[nearest]) if cosines[nearest] > DUPLICATE else None,
            against=str(names[farthest]) if cosines[farthest] < OPPOSED else None,
            agreement=float(unit(others.sum(axis=0)) @ directions[index]),
        )
        found[index] = health.model_copy(update={"findings": _findings(health)})

    in_threads(examine, range(len(statistics.tasks)))
    return found


def _measured(store: GradientStore, task: str, ridge: Ridge, data: PreparedData) -> dict[str, Any]:
    """Return the losses of a classification task's rows over those of guessing, where it has enough rows."""
    parts = list(_first_margins(store, task))
    base, feature = (np.concatenate(part)[:MAX_ROWS] for part in zip(*parts, strict=True))
    shares = np.bincount(data.split(task, "train")[: len(base)]["label"]) / len(base)
    entropy = -float(sum(share * np.log(share) for share in shares[shares > 0]))
    if len(base) < MIN_ROWS or entropy == 0:
        return {"rows": len(base)}
    halves = np.random.default_rng(0).permutation(len(base)) % 2 == 0
    held_out = [_adapted_loss(base, feature, ridge, half) for half in (halves, ~halves)]
    measured: dict[str, Any] = {"rows": len(base), "adapted": float(np.mean(held_out)) / entropy}
    if (
        store.header.answer == "class"
    ):  # a written label competes with every text, not with other labels alone
        guessing = np.log(len(data.task(task).labels))
        measured["zero_shot"] = float(cross_entropy(base).mean() / guessing)
    return measured


def _first_margins(store: GradientStore, task: str) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield shards' margins at the base weights [n] and margin gradients [n, d] until there are `MAX_ROWS`."""
    shards = -(-MAX_ROWS // store.header.shard_rows)
    for shard in islice(store.read(task, "train"), shards):
        _, feature = linear_margins(shard.margin, shard.gradient * shard.positions[:, None])
        bound = -logit(MIN_ERROR)
        yield np.clip(shard.base_margin.astype(np.float64), -bound, bound), feature.astype(np.float64)


def _adapted_loss(base: FloatArray, feature: FloatArray, ridge: Ridge, half: npt.NDArray[np.bool_]) -> float:
    """Return the mean loss of the other half after logistic regression on this one."""
    strength = float(ridge.of_rows(np.array([half.sum()], np.float64))[0])
    weights = logistic_weights(base[half], feature[half], strength)
    return float(cross_entropy(base[~half] + feature[~half] @ weights).mean())


def _findings(health: TaskHealth) -> list[HealthFinding]:
    present: dict[HealthFinding, bool] = {
        "random_labels": health.adapted is not None and health.adapted >= RANDOM_LABELS,
        "contradicted_labels": health.zero_shot is not None and health.zero_shot >= CONTRADICTED_LABELS,
        "duplicate": health.duplicate_of is not None,
        "opposed": health.agreement < OPPOSED,
    }
    return [name for name, is_present in present.items() if is_present]
