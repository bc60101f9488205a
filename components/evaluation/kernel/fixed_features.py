"""Whether the features stayed: kernels of projected margin gradients before and after fine-tuning."""

import numpy as np

from gradsift.components.evaluation.kernel.linearisation import FloatArray
from gradsift.components.shared.records.kernel_report import Features


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
