"""The loss of held-out rows after training on the others: against the primal problem, and on shuffled labels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from gradsift.components.shared.training.sampling.adaptation import RIDGE, adapted_loss


def rows(seed: int, count: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features [n, d] whose sign gives the label up to noise, margins of a model at 0, and labels."""
    generator = np.random.default_rng(seed)
    label = np.arange(count) // 2 % 2
    direction = generator.normal(size=8)
    text = generator.normal(size=(count, 8)) * noise + np.where(label, 1, -1)[:, None] * direction
    return text, generator.normal(size=count) * 0.1, label


def adapted(text: np.ndarray, margin: np.ndarray, label: np.ndarray) -> float:
    """Return `adapted_loss` of rows whose margins have the gradient +-text."""
    feature = text * np.where(label, 1, -1)[:, None]
    error = 1 / (1 + np.exp(margin))
    return adapted_loss(torch.from_numpy(-feature * error[:, None]), torch.from_numpy(margin), label)


def reference(text: np.ndarray, margin: np.ndarray, label: np.ndarray) -> float:
    feature = text * np.where(label, 1, -1)[:, None]
    even = np.arange(len(label)) % 2 == 0
    losses = []
    for half in (even, ~even):
        own, ridge = feature[half], RIDGE * (feature[half] ** 2).sum()
        found = minimize(
            lambda w, own=own, half=half, ridge=ridge: (
                np.logaddexp(0, -(margin[half] + own @ w)).sum() + ridge / 2 * w @ w
            ),
            np.zeros(own.shape[1]),
            tol=1e-12,
        )
        losses.append(np.logaddexp(0, -(margin[~half] + feature[~half] @ found.x)))
    shares = np.bincount(label) / len(label)
    return float(np.concatenate(losses).mean() / -(shares * np.log(shares)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_it_is_logistic_regression_on_half_of_the_rows(seed: int) -> None:
    problem = rows(seed, 20, 1.0)
    assert adapted(*problem) == pytest.approx(reference(*problem), rel=1e-4)


@given(st.integers(0, 2**32))
def test_labels_at_random_cost_more_than_labels_that_follow_the_text(seed: int) -> None:
    text, margin, label = rows(seed, 48, 0.5)
    shuffled = np.random.default_rng(seed).permutation(label)
    assert adapted(text, margin, label) < 0.8
    assert adapted(text, margin, shuffled) > adapted(text, margin, label)


def test_rows_that_the_model_is_sure_of_or_that_have_no_gradient_are_no_trouble() -> None:
    text, margin, label = rows(0, 12, 0.5)
    sure = adapted_loss(torch.zeros(12, 8, dtype=torch.float64), torch.full((12,), 50.0).double(), label)
    assert 0 <= sure < 1e-4
    assert np.isfinite(adapted(text, margin + 40, label))


def test_one_label_alone_has_no_entropy() -> None:
    text, margin, _ = rows(0, 12, 0.5)
    assert np.isnan(adapted(text, margin, np.zeros(12, int)))
