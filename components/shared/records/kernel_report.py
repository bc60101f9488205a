"""Whether a fine-tuning kept to first order: the model of `kernel_report.json`."""

from typing import ClassVar, Literal

from pydantic import FiniteFloat, NonNegativeInt

from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile, Share

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""Points of the way from the start to the fine-tuned weights, as shares of it."""
HOLDS = 0.8
"""Smallest R2, or correlation, that counts as agreement: our threshold, not the paper's."""
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Strengths of the ridge that the kernel regressions try, in units of the train rows' curvature per direction."""

FirstOrder = Literal["holds", "holds in direction", "fails"]
KernelName = Literal["sgd", "a_sign", "sign"]


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


class RidgeAnswers(Record):
    """What a kernel regression answers to the validation rows.

    Attributes:
        ridge: strength of its ridge, in units of tr(H)/d, the train rows' curvature per direction at margins of 0.
        loss: mean loss in nats.
        accuracy: share of right answers; None unless one of two classes is the answer, as a margin alone does not
            say which of several labels has the highest score.
    """

    ridge: NonNegative
    loss: FiniteFloat
    accuracy: Share | None


class KernelRegression(Record):
    """What the kernel at the start answers, by logistic regression on projected margin gradients.

    Attributes:
        rows: train rows of the subset and the target that it took.
        train_rows: how many there are.
        stored: whether their gradients were in the gradient store; else they were computed.
        curve: the answers for each of `RIDGES`.
    """

    rows: NonNegativeInt
    train_rows: NonNegativeInt
    stored: bool
    curve: list[RidgeAnswers]

    @property
    def best(self) -> RidgeAnswers:
        """The answers with the lowest loss; the ridge is chosen on the same rows that measure it."""
        return min(self.curve, key=lambda each: each.loss)


class SignKernel(Record):
    """What one kernel of whole gradients answers, with the ridge that cross-validation on train rows chose."""

    kernel: KernelName
    answered: RidgeAnswers


class SignKernels(Record):
    """Kernels of whole margin gradients at the start, and the fine-tuning that they describe.

    Attributes:
        train_rows: train rows of the target that the kernels took.
        target_rows: how many train rows the target has.
        rows: validation rows that they answered.
        start: answers to these rows of the model that fine-tuning starts from.
        fine_tuned: answers to these rows of the models fine-tuned on the target alone, the mean over seeds.
        kernels: the kernels.
    """

    train_rows: NonNegativeInt
    target_rows: NonNegativeInt
    rows: NonNegativeInt
    start: Answered
    fine_tuned: Answered
    kernels: list[SignKernel]


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
        regression: what the kernel alone answers; None where answers are free text.
        sign_kernels: what kernels of whole gradients and of their signs answer, if that was asked for.
    """

    FILE: ClassVar[str] = "kernel_report.json"

    rows: NonNegativeInt
    val_rows: NonNegativeInt
    relative_step: NonNegative | None
    start: Answered
    fine_tuned: Answered
    tangents: list[Tangent]
    features: Features
    regression: KernelRegression | None = None
    sign_kernels: SignKernels | None = None

    @property
    def at_start(self) -> Tangent:
        """The tangent at the weights that fine-tuning starts from."""
        return self.tangents[0]

    @property
    def metrics(self) -> dict[str, float]:
        """Its numbers for MLflow and Kubeflow."""
        values = {
            "linearisation_r2": self.at_start.r2[-1],
            "linear_loss": self.at_start.answered.loss,
            "kernel_cosine": self.features.cosine,
            "kernel_growth": self.features.growth,
        }
        answered = {} if self.regression is None else {"kernel": self.regression.best}
        if self.sign_kernels is not None:
            answered |= {f"{each.kernel}_kernel": each.answered for each in self.sign_kernels.kernels}
        for name, each in answered.items():
            values[f"{name}_loss"] = each.loss
            if each.accuracy is not None:
                values[f"{name}_accuracy"] = each.accuracy
        return values


def first_order(r2: float, correlation: float | None) -> FirstOrder:
    """Return whether the first-order assumption holds, by R2 at the end of the way and the correlation there."""
    if r2 >= HOLDS:
        return "holds"
    return "holds in direction" if correlation is not None and correlation >= HOLDS else "fails"
