"""Metrics of a fidelity study, against independent computations and simulated truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from gradsift.components.fidelity.metrics import (
    additive_estimates,
    calibrated,
    error_none_all,
    mean_score_estimates,
    noise_ceiling,
    random_regret,
    rank_correlations,
    regret,
)
from gradsift.components.shared.metrics.lds import spearman

FEW = st.lists(st.integers(0, 5), min_size=3, max_size=12)


@given(one=FEW, seed=st.integers(0, 1000))
def test_rank_correlations_are_scipys_ties_and_all(one: list[int], seed: int) -> None:
    estimates = np.array(one, float)
    true = np.random.default_rng(seed).integers(0, 5, len(one)).astype(float)
    found = rank_correlations(estimates, true)
    if len(set(estimates)) < 2 or len(set(true)) < 2:
        assert found is None
        assert spearman(estimates, true) == 0
    else:
        expected = spearmanr(estimates, true).statistic, kendalltau(estimates, true).statistic
        assert found == pytest.approx(expected)


def test_a_line_through_few_runs_makes_up_for_any_scale() -> None:
    true = np.random.default_rng(0).uniform(0.4, 0.8, 30)
    found = calibrated((true[None] - 0.3) * 7, true, runs=5)
    assert found.error == pytest.approx(0, abs=1e-9)
    assert found.spearman == pytest.approx(1)
    assert found.constant > 0.1


def test_the_errors_are_those_of_a_plain_loop() -> None:
    generator = np.random.default_rng(1)
    true = generator.uniform(0.4, 0.8, 12)
    estimates = true + generator.normal(0, 0.05, 12)
    splits, expected = np.random.default_rng(3), []
    for _ in range(20):
        order = splits.permutation(12)
        own, others = order[:6], order[6:]
        slope, intercept = np.polyfit(estimates[own], true[own], 1)
        line = np.abs(intercept + slope * estimates[others] - true[others]) / true[others]
        constant = np.abs(true[own].mean() - true[others]) / true[others]
        ranks = spearmanr(estimates[others], true[others]).statistic
        expected.append([line.mean(), constant.mean(), ranks])
        assert slope > 0
    found = calibrated(estimates[None], true, runs=6, splits=20, seed=3)
    assert [found.error, found.constant, found.spearman] == pytest.approx(np.mean(expected, axis=0).tolist())


def test_the_runs_choose_the_candidate_that_is_right() -> None:
    generator = np.random.default_rng(2)
    true = generator.uniform(0.4, 0.8, 40)
    useless = generator.uniform(0.4, 0.8, (5, 40))
    found = calibrated(np.stack([*useless, 2 * true]), true, runs=8)
    assert found.error == pytest.approx(0, abs=1e-9)
    assert calibrated(useless, true, runs=8).error > 0.15


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_the_ceiling_is_what_another_truth_reaches(seeds: int, noise: float) -> None:
    generator = np.random.default_rng(seeds)
    losses = generator.normal(0.6, 0.1, 1000)
    truth = losses + generator.normal(0, noise, (seeds, 1000))
    again = (losses + generator.normal(0, noise, (seeds, 1000))).mean(axis=0)
    ceiling = noise_ceiling(truth)
    assert ceiling is not None
    assert ceiling.deviation == pytest.approx(noise, rel=0.05)
    assert ceiling.repeated == pytest.approx(spearmanr(truth.mean(axis=0), again).statistic, abs=0.03)
    assert ceiling.perfect == pytest.approx(spearmanr(truth.mean(axis=0), losses).statistic, abs=0.03)
    assert ceiling.low < ceiling.repeated < ceiling.high


def test_pure_chance_has_no_ceiling_to_speak_of_and_one_seed_none() -> None:
    ceiling = noise_ceiling(np.random.default_rng(0).random((2, 300)))
    assert ceiling is not None
    assert abs(ceiling.repeated) < 0.2
    assert noise_ceiling(np.ones((1, 5))) is None


def test_scores_add_up_over_a_subset_and_higher_is_a_lower_loss() -> None:
    masks = np.array([[True, False, True], [False, False, False]])
    assert additive_estimates(masks, np.array([0.5, 9.0, -0.2])) == pytest.approx([-0.3, 0.0])
    assert mean_score_estimates(masks, np.array([0.5, 9.0, -0.2])) == pytest.approx([-0.15, 0.0])


def test_regret_falls_to_nothing_once_the_best_subset_is_trained() -> None:
    losses = np.array([[0.5, 0.6, 0.4, 0.1, 0.3]])
    assert regret(np.array([0.0, 0.0, 1.0, 3.0, 2.0]), losses) == pytest.approx([0.3, 0.2, 0.0])
    assert regret(-losses[0], losses) == pytest.approx([0.3, 0.2, 0.0])
    assert regret(losses[0], losses) == pytest.approx([0.0, 0.0, 0.0])


def test_the_first_seed_chooses_and_the_others_judge() -> None:
    losses = np.array([[0.5, 0.6, 0.1], [0.3, 0.6, 0.4], [0.3, 0.6, 0.6]])
    assert regret(np.zeros(3), losses) == pytest.approx([0.5 - 0.3])


def test_random_orders_cost_the_mean_over_orders() -> None:
    losses = np.array([[0.5, 0.6, 0.4, 0.1]])
    found = random_regret(losses)
    assert found[0] == pytest.approx(0.5 * 0.3, abs=0.03)
    assert found[1] == pytest.approx(0)


def test_none_and_all_give_the_level_of_the_others() -> None:
    true = np.array([0.5, 0.7, 0.6, 0.55])
    assert error_none_all(true[None] - 0.2, true) == pytest.approx(0, abs=1e-9)
    assert error_none_all(np.full((1, 4), 0.2), true) == pytest.approx(np.mean([0.0, 0.05 / 0.55]))
