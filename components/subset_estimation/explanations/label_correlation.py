"""How far a model tells the rows with a label from those without it, whatever its scale and its favourites."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from gradsift.components.shared.linear_model.margins import MIN_ERROR, FloatArray


def label_correlation(margin: FloatArray, label: npt.NDArray[np.int64], labels: int) -> tuple[float, float]:
    """Return the correlation, -1 to 1, of labels with a model's probabilities for them, and its standard error.

    A row's probabilities of the K labels add up to 1. So if they say nothing of the labels, the mean over labels c
    of the mean of p_c over the rows with label c is 1/K, however sure the model is, whichever label it favours and
    however often each occurs. Its distance from 1/K gives Cohen's d = K/(K-1) (mean - 1/K) / s of rows with a label
    and those without it, s being the standard deviation of p among rows of one label, and that the correlation
    d / sqrt(d^2 + 4) of two groups of one size (Cohen 1988, section 2.2). Labels without rows are left out, as if
    they were as probable as the others. s is at least the smallest difference that float32 resolves, or the
    rounding of an untrained head would count.

    The standard error is that of d / 2, which is right at 0. Each label has a variance of its own, to which s^2
    counts as one more row.

    Args:
        margin: log p/(1-p) of each row's label [n].
        label: each row's label [n], from 0; some label has two rows.
        labels: K, the number of labels.
    """
    probability, rows = expit(margin), np.bincount(label, minlength=labels)
    means = np.bincount(label, probability, labels) / np.maximum(rows, 1)
    squares = np.bincount(label, np.square(probability - means[label]), labels)
    present = rows > 0
    scale, count = labels / (labels - 1), present.sum()
    variance = max(squares.sum() / (len(label) - count), MIN_ERROR**2)
    contrast = scale * (means[present].mean() - 1 / labels)
    own = (squares[present] + variance) / rows[present]
    error = scale * np.sqrt((own / rows[present]).sum()) / count
    spread = 2 * np.sqrt(variance)
    return float(contrast / np.hypot(contrast, spread)), float(error / spread)
