"""Loss, accuracy and macro F1 of predictions, with bootstrap intervals over rows and seeds.

Predictions are log-probabilities [n_rows, n_labels]; right answers are label indices [n_rows].
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from gradsift.components.shared.results import Difference, HeldOutMetrics, Interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
LEVEL = 0.95


@dataclass(frozen=True)
class Metrics:
    """Metrics of one set of rows, or arrays of them over bootstrap samples.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: share of right answers.
        macro_f1: mean over labels of the F1 score; a label that is neither true nor given counts as 0.
    """

    loss: FloatArray
    accuracy: FloatArray
    macro_f1: FloatArray


def metrics(log_probabilities: npt.NDArray[np.floating], answers: IntArray) -> Metrics:
    """Return the metrics of all rows."""
    everything = np.ones((1, len(answers)))
    sampled = _weighted_metrics(log_probabilities.astype(np.float64), answers, everything)
    return Metrics(sampled.loss[0], sampled.accuracy[0], sampled.macro_f1[0])


def confusion(log_probabilities: npt.NDArray[np.floating], answers: IntArray) -> list[list[int]]:
    """Return the counts of rows by right label (rows) and given label (columns)."""
    labels = list(range(log_probabilities.shape[1]))
    counts: list[list[int]] = confusion_matrix(answers, log_probabilities.argmax(1), labels=labels).tolist()
    return counts


def bootstrap_metrics(
    seeds: list[npt.NDArray[np.floating]], answers: IntArray, samples: int, seed: int
) -> Metrics:
    """Return the metrics, averaged over drawn seeds, of bootstrap samples, [samples].

    Each sample draws rows, and as many of the model's seeds as it has, both with replacement. The draws of rows
    depend on `seed` alone: the samples of two models on the same rows can be compared one by one.

    Args:
        seeds: one model's log-probabilities, an array [n_rows, n_labels] a seed.
        answers: right labels, [n_rows].
        samples: number of bootstrap samples.
        seed: seed of the draws.
    """
    rows = len(answers)
    draws = (
        np.random.default_rng(seed)
        .multinomial(rows, np.full(rows, 1 / rows), size=samples)
        .astype(np.float64)
    )
    picks = np.random.default_rng([seed, 1]).multinomial(
        len(seeds), np.full(len(seeds), 1 / len(seeds)), size=samples
    )
    shares = picks.T / len(seeds)
    each = [_weighted_metrics(one.astype(np.float64), answers, draws) for one in seeds]
    return Metrics(
        loss=sum((share * one.loss for share, one in zip(shares, each, strict=True)), np.zeros(samples)),
        accuracy=sum(
            (share * one.accuracy for share, one in zip(shares, each, strict=True)), np.zeros(samples)
        ),
        macro_f1=sum(
            (share * one.macro_f1 for share, one in zip(shares, each, strict=True)), np.zeros(samples)
        ),
    )


def held_out(seeds: list[npt.NDArray[np.floating]], answers: IntArray, sampled: Metrics) -> HeldOutMetrics:
    """Return the metrics averaged over seeds, with the intervals of their bootstrap samples."""
    each = [metrics(one, answers) for one in seeds]
    return HeldOutMetrics(
        test_loss=interval(float(np.mean([one.loss for one in each])), sampled.loss),
        test_accuracy=interval(float(np.mean([one.accuracy for one in each])), sampled.accuracy),
        test_macro_f1=interval(float(np.mean([one.macro_f1 for one in each])), sampled.macro_f1),
    )


def difference(
    name: str, chosen: HeldOutMetrics, other: HeldOutMetrics, sampled: Metrics, other_sampled: Metrics
) -> Difference:
    """Return the chosen model's metrics minus those of the model `name`, by paired bootstrap."""
    accuracy = chosen.test_accuracy.mean - other.test_accuracy.mean
    loss = chosen.test_loss.mean - other.test_loss.mean
    return Difference(
        name=name,
        accuracy=interval(accuracy, sampled.accuracy - other_sampled.accuracy),
        loss=interval(loss, sampled.loss - other_sampled.loss),
    )


def interval(mean: float, samples: FloatArray) -> Interval:
    """Return a value with the percentile interval of its bootstrap samples."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean=mean, low=float(low), high=float(high))


def _weighted_metrics(log_probabilities: FloatArray, answers: IntArray, weights: FloatArray) -> Metrics:
    """Return the metrics under row weights [samples, n_rows]."""
    n_rows, n_labels = log_probabilities.shape
    total = weights.sum(1)
    given = log_probabilities.argmax(1)
    right = (given == answers).astype(np.float64)
    loss = weights @ -log_probabilities[np.arange(n_rows), answers] / total
    f1 = np.zeros(len(weights))
    for label in range(n_labels):
        true_positive = weights @ (right * (answers == label))
        named = weights @ (given == label).astype(np.float64) + weights @ (answers == label).astype(
            np.float64
        )
        f1 += np.divide(2 * true_positive, named, out=np.zeros_like(named), where=named > 0)
    return Metrics(loss, weights @ right / total, f1 / n_labels)
