"""Names of the metrics on test rows: which one a target is judged by, and how a sentence calls it."""

from collections.abc import Iterable

PRIMARY_METRICS = ("accuracy", "numeric_match", "rouge_l")


def primary_metric(names: Iterable[str]) -> str:
    """Return the metric that a target is judged by; it lies between 0 and 1, and more is better.

    It is the accuracy of labels. For written answers it is the numeric match where all answers are numbers, else
    ROUGE-L, as on Super-NaturalInstructions (Wang et al. 2022): it suits answers of one word and of many.

    Args:
        names: the metrics that the target has.
    """
    known = set(names)
    return next(name for name in PRIMARY_METRICS if name in known)


def metric_words(metric: str) -> str:
    """Return a metric's name within a sentence."""
    return "ROUGE-L" if metric == "rouge_l" else metric.replace("_", " ")
