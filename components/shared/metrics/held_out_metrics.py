"""Metrics of test rows with bootstrap intervals over rows and seeds."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from gradsift.components.shared.metrics.scores import FloatArray, Metrics
from gradsift.components.shared.records.evaluation_results import Difference, Interval

LEVEL = 0.95
MIN_ROWS = 30
"""Bootstrap intervals over fewer rows are too narrow: over one row, they have no width at all."""


class Weighable(Protocol):
    """Scores of rows, with metrics for rows that count as often as they were drawn."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    def weighted(self, weights: FloatArray) -> Metrics:
        """Return the metrics under row weights [samples, n_rows]."""


def metrics(scores: Weighable) -> dict[str, float]:
    """Return the metrics of all rows, by name."""
    return {name: float(value[0]) for name, value in scores.weighted(np.ones((1, scores.rows))).items()}


def bootstrap_metrics(seeds: Sequence[Weighable], samples: int, seed: int) -> Metrics:
    """Return the metrics, averaged over drawn seeds, of bootstrap samples: arrays [samples] by name.

    Each sample draws rows, and as many of the model's seeds as it has, both with replacement. The draws of rows
    depend on `seed` alone: the samples of two models on the same rows can be compared one by one.

    Args:
        seeds: one model's scores of the rows, for every seed that it was trained with.
        samples: number of bootstrap samples.
        seed: seed of the draws.
    """
    rows = seeds[0].rows
    draws = (
        np.random.default_rng(seed)
        .multinomial(rows, np.full(rows, 1 / rows), size=samples)
        .astype(np.float64)
    )
    picks = np.random.default_rng([seed, 1]).multinomial(
        len(seeds), np.full(len(seeds), 1 / len(seeds)), size=samples
    )
    shares = picks.T / len(seeds)
    each = [scores.weighted(draws) for scores in seeds]
    return {
        name: np.sum([share * one[name] for share, one in zip(shares, each, strict=True)], axis=0)
        for name in each[0]
    }


def held_out(seeds: Sequence[Mapping[str, float]], sampled: Metrics) -> dict[str, Interval]:
    """Return each seed's metrics averaged over seeds, with the intervals of their bootstrap samples."""
    return {
        name: interval(float(np.mean([one[name] for one in seeds])), samples)
        for name, samples in sampled.items()
    }


def difference(
    name: str,
    chosen: Mapping[str, Interval],
    other: Mapping[str, Interval],
    sampled: Metrics,
    other_sampled: Metrics,
) -> Difference:
    """Return the chosen model's metrics minus those of the model `name`, by paired bootstrap."""
    return Difference(
        name=name,
        test={
            metric: interval(value.mean - other[metric].mean, sampled[metric] - other_sampled[metric])
            for metric, value in chosen.items()
        },
    )


def interval(mean: float, samples: FloatArray, level: float = LEVEL) -> Interval:
    """Return a value with the percentile interval of its bootstrap samples, the middle `level` of them."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=mean, low=float(low), high=float(high))
