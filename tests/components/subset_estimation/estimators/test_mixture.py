"""The mixture starts at the starting model's loss, agrees with a slow reference, and follows the runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.subset_estimation.estimators.learning_rates import learning_rates
from gradsift.components.subset_estimation.estimators.loss_estimator import (
    ALPHAS,
    SHORTLIST,
    open_estimator,
    open_simulated,
    simulated_estimator,
)
from gradsift.components.subset_estimation.estimators.mixture import MEMBERS, RIDGES
from gradsift.components.subset_estimation.estimators.mixture_fit import MixtureFit
from gradsift.components.subset_estimation.estimators.run_rates import learning_rate_factors
from gradsift.components.subset_estimation.statistics.start_reading import Blend, read_run_start

CONFIG = SubsetEstimationConfig()


def _reference(start: Any, mask: Any, eta: float, steps: int) -> float:
    """Return the validation loss after descent on the subset's rows and the target's, one step after the other."""
    own = np.repeat([*mask, True], np.diff(start.rows.starts))
    margin, feature = start.rows.margin[own], start.rows.feature[own]
    weights = np.zeros(feature.shape[1])
    for factor in learning_rate_factors(steps):
        wrong = 1.0 / (1.0 + np.exp(margin + feature @ weights))
        weights += eta * factor * (feature.T @ wrong) / len(feature)
    margins = start.validation_margin + start.validation_feature @ weights
    return float(np.logaddexp(0.0, -margins).mean())


def test_its_members_are_the_runs_of_a_slow_reference_and_the_ridges(synthetic: Any) -> None:
    problem, masks = synthetic.problem(rows=30), synthetic.subsets(4)
    start = problem.start()
    rates = learning_rates(start, CONFIG.fine_tuning, CONFIG.meta_training)
    members = problem.estimator(estimator="simulated").member_losses(masks)
    assert members.shape == (len(MEMBERS), 16)
    for eta, losses in zip(rates, members, strict=False):
        np.testing.assert_allclose(losses, [_reference(start, mask, eta, 40) for mask in masks], rtol=1e-6)
    for ridge, losses in zip(RIDGES, members[-len(RIDGES) :], strict=True):
        unit = ridge * problem.statistics().mean_curvature
        for mask, loss in zip(masks[::5], losses[::5], strict=True):
            assert loss == pytest.approx(_ridge_loss(start, mask, unit), rel=1e-4)


def test_a_second_store_adds_members_with_blended_features(synthetic: Any, tmp_path: Path) -> None:
    problem, masks = synthetic.problem(blocks=2, rows=30), synthetic.subsets(4)
    store = GradientStore(problem.write(tmp_path / "meta").uri)
    base = GradientStore(problem.at_base().write(tmp_path / "base", base=True).uri)
    alone, both = open_simulated(CONFIG, store), open_simulated(CONFIG, store, base)
    members = both.member_losses(masks)
    assert list(both.members) == [
        *MEMBERS,
        *(f"{name}, alpha {alpha}" for alpha in ALPHAS for name in MEMBERS),
    ]
    np.testing.assert_array_equal(members[: len(MEMBERS)], alone.member_losses(masks))
    np.testing.assert_allclose(both.mean_losses(masks), members.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(both.losses(masks).estimates().loss, members.mean(axis=0), atol=1e-8)
    for alpha, losses in zip(ALPHAS, np.split(members, len(ALPHAS) + 1)[1:], strict=True):
        start = read_run_start(store, both.statistics, "base", Blend(base, alpha))
        rates = learning_rates(start, CONFIG.fine_tuning, CONFIG.meta_training)
        for eta, found in zip(rates[:3], losses, strict=False):
            np.testing.assert_allclose(found, [_reference(start, mask, eta, 40) for mask in masks], rtol=1e-5)


def test_runs_from_theta_star_blend_nothing(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem()
    store = GradientStore(problem.write(tmp_path / "meta").uri)
    base = GradientStore(problem.at_base().write(tmp_path / "base", base=True).uri)
    config = CONFIG.model_copy(update={"start": "meta"})
    assert set(open_simulated(config, store, base).members) == set(MEMBERS)


def _ridge_loss(start: Any, mask: Any, ridge: float) -> float:
    """Return the loss at the least mean loss plus ridge, found by Newton's method on all rows."""
    own = np.repeat([*mask, True], np.diff(start.rows.starts))
    margin, feature = start.rows.margin[own], start.rows.feature[own]
    weights = np.zeros(feature.shape[1])
    for _ in range(50):
        wrong = 1.0 / (1.0 + np.exp(margin + feature @ weights))
        gradient = -feature.T @ wrong / len(feature) + ridge * weights
        curvature = (feature * (wrong * (1 - wrong))[:, None]).T @ feature / len(feature)
        weights -= np.linalg.solve(curvature + ridge * np.eye(len(weights)), gradient)
    margins = start.validation_margin + start.validation_feature @ weights
    return float(np.logaddexp(0.0, -margins).mean())


def test_with_a_vanishing_learning_rate_only_the_ridges_leave_the_starting_models_loss(
    synthetic: Any,
) -> None:
    problem, masks = synthetic.problem(), synthetic.subsets(4)
    recipe = TrainingRecipe(steps=40, learning_rate=1e-15)
    config = CONFIG.model_copy(update={"fine_tuning": recipe})
    estimator = simulated_estimator(config, problem.statistics(), [problem.start()])
    start = np.logaddexp(0, -problem.validation.base_margin).mean()
    np.testing.assert_allclose(estimator.member_losses(masks)[: -len(RIDGES)], start, rtol=1e-6)


def test_losses_in_full_detail_are_those_of_the_means(synthetic: Any) -> None:
    problem, masks = synthetic.problem(blocks=2), synthetic.subsets(4)
    estimator = problem.estimator(estimator="simulated")
    losses = estimator.losses(masks)
    assert losses.blocks.shape == (16, 2)
    np.testing.assert_allclose(losses.estimates().loss, estimator.mean_losses(masks), atol=1e-8)
    np.testing.assert_allclose(
        estimator.member_losses(masks).mean(axis=0), estimator.mean_losses(masks), atol=1e-8
    )
    assert (losses.estimates().standard_error > 0).all()
    assert spearmanr(losses.blocks.mean(axis=1), losses.rows.mean(axis=1)).statistic > 0.7


def test_runs_correct_scale_and_weights_of_means_and_details_alike(synthetic: Any) -> None:
    problem, masks = synthetic.problem(blocks=2), synthetic.subsets(4)
    estimator = problem.estimator(estimator="simulated")
    members = estimator.member_losses(masks)
    fit = MixtureFit(np.array([0.5, 0, 0, 0, 0, 0, 1.0]), -0.2)
    estimator.correct(fit)
    np.testing.assert_allclose(estimator.mean_losses(masks), fit.of(members), atol=1e-8)
    np.testing.assert_allclose(estimator.losses(masks).estimates().loss, fit.of(members), atol=1e-8)
    estimator.correct(MixtureFit(-fit.weights, 2.0))
    np.testing.assert_allclose(estimator.mean_losses(masks), fit.of(members), atol=1e-8)


def test_the_shortlist_holds_the_best_half(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=7, rows=30)
    estimator, masks = problem.estimator(estimator="simulated"), synthetic.subsets(7)
    found = estimator.promising(masks)
    assert len(found) == SHORTLIST
    assert (np.diff(found) > 0).all()
    losses = estimator.mean_losses(masks)
    assert losses[found].min() <= np.quantile(losses, 0.05)
    assert losses[found].mean() < losses.mean()
    np.testing.assert_array_equal(estimator.promising(masks[:5]), np.arange(5))


@pytest.mark.parametrize(("answer", "tokens"), [("class", 1), ("label", 3), ("text", 1)])
def test_a_store_of_any_answer_can_be_estimated(
    synthetic: Any, tmp_path: Path, answer: Any, tokens: int
) -> None:
    problem, masks = synthetic.problem(blocks=2), synthetic.subsets(4)
    store = GradientStore(problem.write(tmp_path, answer, tokens).uri)
    estimator = open_estimator(CONFIG, store)
    assert estimator.evaluation == "cross_entropy"
    found, losses = estimator.mean_losses(masks), estimator.losses(masks)
    np.testing.assert_allclose(losses.estimates().loss, found, atol=1e-8)
    assert np.isfinite(losses.blocks).all()
    exact = problem.estimator(estimator="simulated").mean_losses(masks)
    if tokens == 1:
        np.testing.assert_allclose(found, exact, rtol=0.03)
    assert spearmanr(found, exact).statistic > 0.8


def test_a_recipe_by_epochs_takes_more_steps_on_more_rows(synthetic: Any) -> None:
    problem, masks = synthetic.problem(tasks=1), np.array([[False], [True]])
    by_epochs = CONFIG.model_copy(update={"fine_tuning": TrainingRecipe(epochs=4, batch_size=4)})
    estimator = simulated_estimator(by_epochs, problem.statistics(), [problem.start()])
    rates = learning_rates(problem.start(), by_epochs.fine_tuning, by_epochs.meta_training)
    alone, both = estimator.member_losses(masks).T
    assert alone[2] == pytest.approx(_reference(problem.start(), [False], rates[2], 20), rel=1e-6)
    assert both[2] == pytest.approx(_reference(problem.start(), [True], rates[2], 40), rel=1e-6)


def test_runs_from_theta_star_start_at_its_loss(synthetic: Any, tmp_path: Path) -> None:
    problem, masks = synthetic.problem(), synthetic.subsets(4)
    store = GradientStore(problem.write(tmp_path).uri)
    recipe = TrainingRecipe(steps=40, learning_rate=1e-15)
    config = CONFIG.model_copy(update={"start": "meta", "fine_tuning": recipe})
    members = open_simulated(config, store).member_losses(masks)[: -len(RIDGES)]
    np.testing.assert_allclose(members, np.logaddexp(0, -problem.validation.margin).mean(), rtol=1e-5)
