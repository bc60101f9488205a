"""Which sources look suspicious: labels that nothing predicts or that contradict their names, copies, opponents."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from scipy.stats import entropy

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
from gradsift.components.subset_estimation.explanations.label_correlation import label_correlation
from gradsift.components.subset_estimation.statistics.directions import unit
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics
from gradsift.components.subset_estimation.statistics.threads import in_threads

MAX_ROWS, MIN_ROWS = 2048, 30
"""Train rows of a source that its health is measured on: the first ones, and none of a source with few."""
LEARNED, CONTRADICTED = 0.15, -0.05
"""Correlation after training on other rows that labels look random below, and at the base weights that their names
contradict the texts below."""
UPPER_BOUND = 1.645
"""Standard errors from a correlation to its one-sided 95% confidence bound, which has to be below these."""
DUPLICATE, OPPOSED = 0.95, -0.3
"""Cosines of mean gradients above which one task is a copy of another, and below which it pulls against it."""


def task_health(
    store: GradientStore, statistics: TaskStatistics, ridge: Ridge, data: PreparedData
) -> list[TaskHealth]:
    """Return the health of every auxiliary task, in the store's order.

    A source's rows are split into halves at random, each label's too. Logistic regression on the linear margins of
    one half, sum log(1 + exp(-(b0 + x.w))) + R/2 |w|^2, gives the margins of the other, and the reverse. It starts
    from the margins b0 at the base weights, as theta* has seen all rows and knows the labels of some by heart.

    The findings on labels are of their correlation with these margins and with b0 (see `label_correlation`), not of
    the losses: on a task that a model cannot do, the surer it is, the further its loss is above that of guessing. A
    correlation has to be below a limit by more than chance, so that neither few rows nor a small difference of many
    rows gives a finding. With more than two labels, a row's linear margins are those of probabilities that add up
    to somewhat more than 1, so the correlation of random labels is somewhat above 0 after training.

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
    return [health.model_copy(update={"findings": findings_of(health)}) for health in found]


def _measured(store: GradientStore, task: str, ridge: Ridge, data: PreparedData) -> dict[str, Any]:
    """Return the losses and correlations of a task's labels, where it has enough rows with labels."""
    parts = list(_first_margins(store, task))
    base, feature = (np.concatenate(part)[:MAX_ROWS] for part in zip(*parts, strict=True))
    label = np.array(data.split(task, "train")[: len(base)]["label"])
    rows = np.bincount(label)
    if len(base) < MIN_ROWS or rows.max() in (1, len(label)):
        return {"rows": len(base)}
    half = _halves(label)
    margin = np.empty(len(base))
    for part in (half, ~half):
        margin[~part] = _adapted_margins(base, feature, ridge, part)
    adapted = float(cross_entropy(margin).mean()) / float(entropy(rows))
    if (
        store.header.answer != "class"
    ):  # a written label competes with every text, not with other labels alone
        return {"rows": len(base), "adapted": adapted}
    labels = len(data.task(task).labels)
    learned, named = label_correlation(margin, label, labels), label_correlation(base, label, labels)
    return {
        "rows": len(base),
        "adapted": adapted,
        "zero_shot": float(cross_entropy(base).mean()) / np.log(labels),
        "learned": learned[0],
        "learned_error": learned[1],
        "named": named[0],
        "named_error": named[1],
    }


def _halves(label: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return whether each row is in the first half: every other row, of rows in random order within their label."""
    order = np.random.default_rng(0).permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]
    half = np.empty(len(label), bool)
    half[order] = np.arange(len(label)) % 2 == 0
    return half


def _first_margins(store: GradientStore, task: str) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield shards' margins at the base weights [n] and margin gradients [n, d] until there are `MAX_ROWS`."""
    shards = -(-MAX_ROWS // store.header.shard_rows)
    for shard in islice(store.read(task, "train"), shards):
        _, feature = linear_margins(shard.margin, shard.gradient * shard.positions[:, None])
        bound = -logit(MIN_ERROR)
        yield np.clip(shard.base_margin.astype(np.float64), -bound, bound), feature.astype(np.float64)


def _adapted_margins(
    base: FloatArray, feature: FloatArray, ridge: Ridge, half: npt.NDArray[np.bool_]
) -> FloatArray:
    """Return the margins of the other half's rows after logistic regression on this one."""
    strength = float(ridge.of_rows(np.array([half.sum()], np.float64))[0])
    weights = logistic_weights(base[half], feature[half], strength)
    return base[~half] + feature[~half] @ weights


def findings_of(health: TaskHealth) -> list[HealthFinding]:
    """Return what deserves a look in a source's figures."""
    present: dict[HealthFinding, bool] = {
        "random_labels": _surely_below(LEARNED, health.learned, health.learned_error),
        "contradicted_labels": _surely_below(CONTRADICTED, health.named, health.named_error),
        "duplicate": health.duplicate_of is not None,
        "opposed": health.agreement < OPPOSED,
    }
    return [name for name, is_present in present.items() if is_present]


def _surely_below(limit: float, value: float | None, error: float | None) -> bool:
    return value is not None and error is not None and value + UPPER_BOUND * error < limit
