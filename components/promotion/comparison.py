"""Compares candidate and champion by their answers to the same test rows, and says which is better."""

import json
from dataclasses import dataclass

from gradsift.components.shared.metrics.held_out_metrics import (
    MIN_ROWS,
    bootstrap_metrics,
    interval,
    metrics,
)
from gradsift.components.shared.metrics.scores import Scores
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.metric_names import metric_words, primary_metric

BOOTSTRAP_SAMPLES = 2000
BOOTSTRAP_SEED = 0
DECIMALS = 9
"""Gains are rounded to so many decimals, which hides the rounding errors of sums over rows."""


@dataclass(frozen=True)
class Comparison:
    """The candidate's metric minus the champion's, and what a gain must be.

    Attributes:
        metric: name of the metric that the target is judged by.
        rows: number of test rows that both answered.
        score: the candidate's metric.
        champion_score: the champion's.
        gain: their difference.
        interval: the gain with its paired bootstrap interval; None where `confidence` is 0.
        min_gain: see `PromotionConfig`.
        confidence: see `PromotionConfig`.
    """

    metric: str
    rows: int
    score: float
    champion_score: float
    gain: float
    interval: Interval | None
    min_gain: float
    confidence: float

    @property
    def promoted(self) -> bool:
        """Whether the candidate is better, by `min_gain` at least, and surely so over enough rows."""
        sure = self.interval is None or (self.interval.low > 0 and self.rows >= MIN_ROWS)
        return self.gain > 0 and self.gain >= self.min_gain and sure

    @property
    def reason(self) -> str:
        """Why the candidate is promoted or not, as the end of a sentence."""
        if self.gain <= 0:
            return "it is not better"
        if self.gain < self.min_gain:
            return f"it is better by less than the {100 * self.min_gain:.2f} points asked for"
        if self.interval is None:
            return "it is better"
        if self.rows < MIN_ROWS:
            return f"fewer than {MIN_ROWS} test rows cannot tell whether it is better"
        return "it is clearly better" if self.promoted else "its gain may be chance"

    def text(self, champion: str) -> str:
        """Return the metric, both scores, their difference and its interval as the end of a sentence."""
        words = (
            f"{metric_words(self.metric)} {self.score:.2%} against {self.champion_score:.2%} of {champion} on the "
            f"same {self.rows} test rows, a difference of {_points(self.gain)} points"
        )
        if self.interval is None:
            return f"{words}, no interval asked for"
        ends = f"{_points(self.interval.low)} to {_points(self.interval.high)}"
        return f"{words} ({100 * self.confidence:g}% interval {ends})"

    def numbers(self) -> dict[str, float]:
        """Return both scores, the gain and the ends of its interval by name."""
        found = {"score": self.score, "champion_score": self.champion_score, "gain": self.gain}
        if self.interval is not None:
            found |= {"gain_low": self.interval.low, "gain_high": self.interval.high}
        return found

    def tags(self) -> dict[str, str]:
        """Return everything that was compared, as tags of a model version with JSON values."""
        ends = None if self.interval is None else [self.interval.low, self.interval.high]
        values = {
            "metric": self.metric,
            "test_rows": self.rows,
            "score": self.score,
            "champion_score": self.champion_score,
            "gain": self.gain,
            "gain_interval": ends,
            "min_gain": self.min_gain,
            "confidence": self.confidence,
        }
        return {f"gradsift.{name}": json.dumps(value) for name, value in values.items()}


def compare(config: PromotionConfig, candidate: Scores, champion: Scores) -> Comparison:
    """Compare two models by the metric that their target is judged by, with a paired bootstrap over test rows.

    The interval is the middle `confidence` of the differences in `BOOTSTRAP_SAMPLES` samples, drawn with
    `BOOTSTRAP_SEED`: each sample draws rows with replacement, the same rows for both models.

    Args:
        config: what a gain must be, and how sure.
        candidate: the candidate's scores of the test rows.
        champion: the champion's scores of the same rows.
    """
    found, champion_found = metrics(candidate), metrics(champion)
    metric = primary_metric(found)
    gain = round(found[metric] - champion_found[metric], DECIMALS)
    return Comparison(
        metric=metric,
        rows=candidate.rows,
        score=found[metric],
        champion_score=champion_found[metric],
        gain=gain,
        interval=_interval(config.confidence, gain, metric, candidate, champion)
        if config.confidence
        else None,
        min_gain=config.min_gain,
        confidence=config.confidence,
    )


def _interval(confidence: float, gain: float, metric: str, candidate: Scores, champion: Scores) -> Interval:
    drawn, champion_drawn = (
        bootstrap_metrics([scores], BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED)[metric]
        for scores in (candidate, champion)
    )
    return interval(gain, (drawn - champion_drawn).round(DECIMALS), confidence)


def _points(share: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+z.2f}"
