"""Whether a fine-tuning kept to first order: the model of `kernel_report.json`."""

from typing import ClassVar, Literal

from pydantic import FiniteFloat, NonNegativeInt

from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile, Share

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""Points of the way from the start to the fine-tuned weights, as shares of it."""
HOLDS = 0.8
"""Smallest R2, or correlation, that counts as agreement: our threshold, not the paper's."""

FirstOrder = Literal["holds", "holds in direction", "fails"]


class Answered(Record):
    """Mean loss in nats and share of right answers over the rows of the report."""

    loss: FiniteFloat
    accuracy: Share


class Tangent(Record):
    """Margins that are linear in the step, beside those that the fine-tuning reached.

    With f the margin of a row, f' its derivative along the whole step, and t a share of the way:

    Attributes:
        point: the weights at which derivatives were taken: `base`, the pretrained ones, or `meta`, theta*.
        r2: 1 - sum (f_t - f_0 - t f')^2 / sum (f_t - f_0)^2 over the rows, for every t of `FRACTIONS`; 1 where no
            margin moved.
        correlation: Pearson's, of f_1 - f_0 with f'; None where one is constant.
        slope: of f_1 - f_0 on f', through the origin: 1 if margins move as far as derivatives predict; None where
            all derivatives are 0.
        answered: what the model answers whose scores are linear in the step.
        verdict: whether the assumption holds.
    """

    point: Start
    r2: list[FiniteFloat]
    correlation: FiniteFloat | None
    slope: FiniteFloat | None
    answered: Answered
    verdict: FirstOrder


class Features(Record):
    """Kernels of the rows before and after fine-tuning: K = M M^T, with M the projected gradients of the margins.

    Attributes:
        cosine: sum K_0 K_1 / (|K_0| |K_1|) with Frobenius norms, 1 where the kernels differ by a factor.
        change: |K_1 - K_0| / |K_0|.
        growth: tr K_1 / tr K_0.
        projection_cosine: of K_0 by the first half of the projection's columns with K_0 by the second: 1 where
            projecting costs nothing.
    """

    cosine: FiniteFloat
    change: NonNegative
    growth: NonNegative
    projection_cosine: FiniteFloat

    @property
    def fixed(self) -> bool:
        """Whether the kernel stayed, by a threshold of our own."""
        return self.change <= 1 - HOLDS


class KernelReport(ResultFile):
    """`kernel_report.json`: how far the final model's fine-tuning kept to first order.

    Attributes:
        rows: validation rows of the target that it was measured on.
        val_rows: rows of that split.
        relative_step: length of the step over that of the weights at its start, over the trained parameters; None
            where those are all zero.
        start: what the model answers that fine-tuning starts from.
        fine_tuned: what the fine-tuned model answers.
        tangents: derivatives at the start, and at theta* where that is another point.
        features: whether the rows' gradients stayed.
    """

    FILE: ClassVar[str] = "kernel_report.json"

    rows: NonNegativeInt
    val_rows: NonNegativeInt
    relative_step: NonNegative | None
    start: Answered
    fine_tuned: Answered
    tangents: list[Tangent]
    features: Features

    @property
    def at_start(self) -> Tangent:
        """The tangent at the weights that fine-tuning starts from."""
        return self.tangents[0]

    @property
    def metrics(self) -> dict[str, float]:
        """Its numbers for MLflow and Kubeflow."""
        return {
            "linearisation_r2": self.at_start.r2[-1],
            "linear_loss": self.at_start.answered.loss,
            "kernel_cosine": self.features.cosine,
            "kernel_growth": self.features.growth,
        }


def first_order(r2: float, correlation: float | None) -> FirstOrder:
    """Return whether the first-order assumption holds, by R2 at the end of the way and the correlation there."""
    if r2 >= HOLDS:
        return "holds"
    return "holds in direction" if correlation is not None and correlation >= HOLDS else "fails"
