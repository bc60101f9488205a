"""Surrogates say how well they do on subsets that they were not fitted to."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.subset_estimation.explanations.surrogates import MIN_SUBSETS, fit_surrogates

TASKS = [f"task{index}" for index in range(6)]


def _fit(masks: Any, losses: Any) -> Any:
    return fit_surrogates(TASKS, masks, losses, np.random.default_rng(0))


def test_additive_losses_are_predicted_by_the_linear_one(synthetic: Any) -> None:
    effects = np.array([0.3, -0.5, 0.1, -0.1, -0.7, 0.0])
    masks = synthetic.subsets(6)
    linear, rbf = _fit(masks, 5 + masks @ effects)
    assert (linear.kind, rbf.kind) == ("linear", "rbf")
    assert linear.held_out_r2 > 0.99
    assert linear.held_out_spearman > 0.99
    assert linear.coefficients == pytest.approx(dict(zip(TASKS, effects, strict=True)), abs=0.01)
    assert rbf.coefficients == {}
    assert linear.subsets == rbf.subsets == 64


def test_interactions_are_seen_by_the_kernel_alone(synthetic: Any) -> None:
    masks = synthetic.subsets(6)
    linear, rbf = _fit(masks, 0.1 * (masks[:, 0] ^ masks[:, 1]))
    assert linear.held_out_r2 < 0.1
    assert rbf.held_out_r2 > 0.4


def test_noise_is_not_predicted(synthetic: Any) -> None:
    found = _fit(synthetic.subsets(6), np.random.default_rng(1).normal(size=64))
    assert all(surrogate.held_out_r2 < 0.2 for surrogate in found)


def test_a_subset_counts_once(synthetic: Any) -> None:
    masks = np.tile(synthetic.subsets(6), (3, 1))
    assert _fit(masks, masks.sum(axis=1) / 10)[0].subsets == 64


def test_too_few_or_equal_losses_give_none(synthetic: Any) -> None:
    masks = synthetic.subsets(6)
    assert _fit(masks, np.ones(64)) == []
    assert _fit(masks[: MIN_SUBSETS - 1], np.arange(MIN_SUBSETS - 1.0)) == []
    assert len(_fit(masks[:MIN_SUBSETS], np.arange(float(MIN_SUBSETS)))) == 2
