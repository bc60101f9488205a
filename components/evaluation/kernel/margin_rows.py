"""Rows as the estimates see them: margins at one point, and projected gradients of the margins there."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from gradsift.components.evaluation.kernel.linearisation import FloatArray, Step
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.linear_model.margins import linear_margins
from gradsift.components.shared.models.task_model import Batch


@dataclass(frozen=True)
class MarginRows:
    """Rows at one point of the weights.

    Attributes:
        margin: margins of the right answers [n].
        gradient: projected gradients of the margins [n, d].
        positions: number of tokens of each answer [n], 1 where a class is the answer.
    """

    margin: FloatArray
    gradient: FloatArray
    positions: FloatArray

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all parts, of which there is at least one."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


def sketched_rows(
    step: Step, share: float, sketcher: GradientSketcher, batches: Iterable[Batch]
) -> MarginRows:
    """Compute rows after a share of a step, by one forward and one backward pass.

    Args:
        step: the step.
        share: how much of it.
        sketcher: the sketcher of the step's model.
        batches: the rows.
    """
    parts = []
    for batch in batches:
        sketcher.rows = len(batch["label"])
        answers = step.answers(batch, share)
        margins = answers.margins()
        gradients = sketcher.gradients(margins.sum(), keep_graph=False)
        found = (margins.detach(), gradients, answers.positions)
        parts.append(MarginRows(*(values.cpu().double().numpy() for values in found)))
    return MarginRows.joined(parts)


def stored_rows(store: GradientStore, drawn: dict[str, list[int]]) -> MarginRows:
    """Read rows from the gradient store of the point.

    Args:
        store: the store.
        drawn: places of train rows in ascending order, by task.

    Raises:
        GradientStoreError: the store cannot be read.
    """
    return MarginRows.joined(
        [part for task, places in drawn.items() for part in _task_rows(store, task, places)]
    )


def _task_rows(store: GradientStore, task: str, places: list[int]) -> Iterator[MarginRows]:
    """Yield a task's rows at these places, shard by shard."""
    first = 0
    for shard in store.read(task, "train"):
        own = [place - first for place in places if first <= place < first + len(shard.loss)]
        first += len(shard.loss)
        positions = shard.positions[own]
        margin, feature = linear_margins(shard.margin[own], shard.gradient[own] * positions[:, None])
        yield MarginRows(margin, feature.astype(np.float64), positions.astype(np.float64))
