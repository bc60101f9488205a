"""The correlation of labels with a model's probabilities, at chance and away from it."""

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, logit

from gradsift.components.subset_estimation.explanations.label_correlation import label_correlation


def margins(scores: Any, label: Any) -> Any:
    """Return log p/(1-p) of each row's label under a softmax of scores [n, labels]."""
    return logit(np.exp(log_softmax(scores, axis=1)[np.arange(len(label)), label]))


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("scale", [0.1, 8.0])
def test_of_labels_at_random_it_is_zero_within_its_error(labels: int, scale: float) -> None:
    """However sure the model is, whichever labels it favours, and however rare those are."""
    generator = np.random.default_rng(0)
    found, errors = [], []
    for _ in range(300):
        label = generator.choice(labels, 120, p=np.arange(1, labels + 1) / sum(range(1, labels + 1)))
        scores = scale * (generator.normal(size=(120, labels)) - np.arange(labels))
        value, error = label_correlation(margins(scores, label), label, labels)
        found.append(value)
        errors.append(error)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert np.std(found) == pytest.approx(np.mean(errors), rel=0.35)


def test_for_two_labels_it_is_the_correlation_with_their_probability() -> None:
    generator = np.random.default_rng(1)
    label = np.repeat([0, 1], 5000)
    scores = generator.normal(size=(10000, 2)) + 0.5 * np.eye(2)[label]
    probability = np.exp(log_softmax(scores, axis=1)[:, 1])
    expected = np.corrcoef(label, probability)[0, 1]
    assert label_correlation(margins(scores, label), label, 2)[0] == pytest.approx(expected, abs=1e-3)
    assert label_correlation(margins(scores, 1 - label), 1 - label, 2)[0] == pytest.approx(
        -expected, abs=1e-3
    )


@pytest.mark.parametrize(("margin", "expected"), [(20.0, 1.0), (-20.0, -1.0), (logit(1 / 3), 0.0)])
def test_a_model_that_says_the_same_of_every_row_is_right_wrong_or_guesses(
    margin: float, expected: float
) -> None:
    stored = np.full(60, margin, np.float32).astype(float)
    value, _ = label_correlation(stored, np.arange(60) % 3, 3)
    assert value == pytest.approx(expected, abs=0.02)
