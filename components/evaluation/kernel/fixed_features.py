"""Whether the features stayed: kernels of projected margin gradients before and after fine-tuning."""

from collections.abc import Iterable

import numpy as np

from gradsift.components.evaluation.kernel.linearisation import FloatArray, Step
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.models.task_model import Batch
from gradsift.components.shared.records.kernel_report import Features


def margin_gradients(
    step: Step, share: float, sketcher: GradientSketcher, batches: Iterable[Batch]
) -> FloatArray:
    """Return the projected gradients of the rows' margins after a share of a step, [n, d].

    Args:
        step: the step.
        share: how much of it.
        sketcher: the sketcher of the step's model.
        batches: the rows.
    """
    gradients = []
    for batch in batches:
        sketcher.rows = len(batch["label"])
        margins = step.answers(batch, share).margins()
        gradients.append(sketcher.gradients(margins.sum(), keep_graph=False).cpu().double().numpy())
    return np.concatenate(gradients)


def features_of(before: FloatArray, after: FloatArray) -> Features:
    """Compare the kernels M M^T of the rows' gradients M before and after fine-tuning, both [n, d]."""
    kernel, later = before @ before.T, after @ after.T
    halves = [half @ half.T for half in np.array_split(before, 2, axis=1)]
    return Features(
        cosine=_cosine(kernel, later),
        change=float(np.linalg.norm(later - kernel) / np.linalg.norm(kernel)),
        growth=float(np.trace(later) / np.trace(kernel)),
        projection_cosine=_cosine(*halves),
    )


def _cosine(one: FloatArray, other: FloatArray) -> float:
    return float((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)))
