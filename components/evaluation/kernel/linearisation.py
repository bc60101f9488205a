"""How linear a fine-tuning was: the margins along the step that it took, beside those of tangents.

Derivatives are central differences of two forward passes, so that any model can be measured and none needs a
backward pass. All of it is float32.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call

from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.task_model import Batch, TaskModel
from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.kernel_report import FRACTIONS, Answered, Tangent, first_order

HALF_WIDTH = 0.02
"""Half the width of the central difference, as a share of the step."""

FloatArray = npt.NDArray[np.float64]
Weights = Mapping[str, Tensor]
"""Parameters by their names in the model."""


class Step:
    """The step of a fine-tuning in its trained parameters.

    Attributes:
        start: the trained parameters before the step.
        difference: what the step added to them.
    """

    def __init__(self, model: TaskModel, start: Weights) -> None:
        """Take the step that led to a model.

        Args:
            model: the fine-tuned model, in evaluation mode; what was trained requires gradients.
            start: the weights before, the trained ones among them.
        """
        self._model = model
        self.start = {
            name: start[name].detach().to(value.device)
            for name, value in model.named_parameters()
            if value.requires_grad
        }
        self.difference = {
            name: model.get_parameter(name).detach() - value for name, value in self.start.items()
        }

    @property
    def relative_length(self) -> float | None:
        """Length of the step over that of the trained parameters before it; None where those are all zero."""
        before = _length(self.start)
        return _length(self.difference) / before if before else None

    def answers(self, batch: Batch, share: float, origin: Weights | None = None) -> Answers:
        """Return what the model says of a batch after a share of the step.

        Args:
            batch: the rows.
            share: how much of the step, any number.
            origin: the weights to take it from; the start unless given.
        """
        weights = self.start if origin is None else origin
        if share:
            weights = {name: weights[name] + share * value for name, value in self.difference.items()}
        result = functional_call(self._model, dict(weights), (), dict(batch))
        return Answers(result["logits"], result["label"])

    def derivative(self, batch: Batch, origin: Weights) -> tuple[Tensor, Tensor]:
        """Return the derivatives of margins [n] and of scores [n, C, V] along the step.

        The derivative of a score that is minus infinity is 0.

        Args:
            batch: the rows.
            origin: the weights at which they are taken.
        """
        ahead, behind = (self.answers(batch, share, origin) for share in (HALF_WIDTH, -HALF_WIDTH))
        margins = (ahead.margins() - behind.margins()) / (2 * HALF_WIDTH)
        scores = (ahead.logits - behind.logits) / (2 * HALF_WIDTH)
        return margins, scores.masked_fill(~ahead.logits.isfinite(), 0.0)


@dataclass(frozen=True)
class Reading:
    """What a model says of n rows.

    Attributes:
        margin: margins of the right answers [n].
        loss: losses in nats [n].
        right: whether the answer with the highest score is right [n].
    """

    margin: FloatArray
    loss: FloatArray
    right: FloatArray

    @classmethod
    def of(cls, answers: Answers) -> Self:
        """Read answers."""
        found = (answers.margins(), answers.losses(), answers.right())
        return cls(*(values.cpu().double().numpy() for values in found))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all parts."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))

    @property
    def answered(self) -> Answered:
        """Means over the rows."""
        return Answered(loss=float(self.loss.mean()), accuracy=float(self.right.mean()))


@dataclass(frozen=True)
class Linearisation:
    """Readings along the step, and what tangents say of its end.

    Attributes:
        start: at its start.
        along: at each of `FRACTIONS` of it.
        derivatives: by the point at which they were taken, those of the margins along the step [n].
        linear: by the same points, at the end of the step if scores were linear in it.
    """

    start: Reading
    along: list[Reading]
    derivatives: dict[Start, FloatArray]
    linear: dict[Start, Reading]

    def tangents(self) -> list[Tangent]:
        """Return how well each point's derivatives describe the margins."""
        moved = [reading.margin - self.start.margin for reading in self.along]
        return [
            tangent_of(point, moved, derivative, self.linear[point].answered)
            for point, derivative in self.derivatives.items()
        ]


@torch.no_grad()
def linearise(step: Step, points: Mapping[Start, Weights], batches: Iterable[Batch]) -> Linearisation:
    """Read rows along a step, and by derivatives at some points.

    Args:
        step: the step.
        points: the weights at which derivatives are taken, by name.
        batches: the rows.
    """
    along: dict[float, list[Reading]] = {share: [] for share in (0.0, *FRACTIONS)}
    derivatives: dict[Start, list[FloatArray]] = {point: [] for point in points}
    linear: dict[Start, list[Reading]] = {point: [] for point in points}
    for batch in batches:
        start = step.answers(batch, 0.0)
        along[0.0].append(Reading.of(start))
        for share in FRACTIONS:
            along[share].append(Reading.of(step.answers(batch, share)))
        for point, weights in points.items():
            margins, scores = step.derivative(batch, weights)
            derivatives[point].append(margins.cpu().double().numpy())
            linear[point].append(Reading.of(Answers(start.logits + scores, start.label)))
    readings = {share: Reading.joined(parts) for share, parts in along.items()}
    return Linearisation(
        start=readings.pop(0.0),
        along=list(readings.values()),
        derivatives={point: np.concatenate(parts) for point, parts in derivatives.items()},
        linear={point: Reading.joined(parts) for point, parts in linear.items()},
    )


def tangent_of(
    point: Start, moved: Sequence[FloatArray], derivative: FloatArray, answered: Answered
) -> Tangent:
    """Return how well derivatives describe how far margins moved.

    Args:
        point: where the derivatives were taken.
        moved: how far margins moved from the start, [n] for each of `FRACTIONS`.
        derivative: of the margins along the whole step [n].
        answered: what the model answers whose scores are linear in the step.
    """
    r2 = [_r2(each, share * derivative) for each, share in zip(moved, FRACTIONS, strict=True)]
    whole, square = moved[-1], float(derivative @ derivative)
    constant = np.ptp(whole) == 0 or np.ptp(derivative) == 0
    correlation = None if constant else float(np.corrcoef(whole, derivative)[0, 1])
    return Tangent(
        point=point,
        r2=r2,
        correlation=correlation,
        slope=float(whole @ derivative) / square if square else None,
        answered=answered,
        verdict=first_order(r2[-1], correlation),
    )


def _r2(moved: FloatArray, predicted: FloatArray) -> float:
    total = float(moved @ moved)
    return 1.0 - float(np.square(moved - predicted).sum()) / total if total else 1.0


def _length(weights: Weights) -> float:
    return float(torch.stack([value.double().square().sum() for value in weights.values()]).sum().sqrt())
