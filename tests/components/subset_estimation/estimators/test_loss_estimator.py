"""Estimated losses are those of a linear model retrained on the subset; their standard errors hold on average."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator
from gradsift.components.subset_estimation.estimators.uncertainty import variance_of_mean

WIDTH = 600
ESTIMATORS = pytest.mark.parametrize("estimator", ["gauss_newton", "logistic"])


def test_logistic_is_exact_for_a_model_with_linear_margins(synthetic: Any) -> None:
    problem, masks = synthetic.problem(tasks=3), synthetic.subsets(3)
    found = problem.estimator(estimator="logistic", ridge=0.3).losses(masks).estimates().loss
    unit = 0.3 * problem.statistics().mean_curvature
    for mask, loss in zip(masks, found, strict=True):
        members = [rows for rows, member in zip(problem.train, [*mask, True], strict=True) if member]
        margin = np.concatenate([rows.margin for rows in members])
        feature = np.concatenate([rows.feature for rows in members])

        def objective(weights: Any, margin: Any = margin, feature: Any = feature) -> float:
            losses = np.logaddexp(0, -(margin + feature @ weights))
            return float(losses.sum() + unit * len(margin) / 2 * weights @ weights)

        weights = minimize(objective, np.zeros(8), method="BFGS").x
        retrained = np.logaddexp(
            0, -(problem.validation.margin + problem.validation.feature @ weights)
        ).mean()
        assert loss == pytest.approx(retrained, rel=1e-5)


@ESTIMATORS
def test_estimates_from_a_store_are_those_of_its_rows(
    synthetic: Any, tmp_path_factory: pytest.TempPathFactory, estimator: str
) -> None:
    problem, masks = synthetic.problem(blocks=2), synthetic.subsets(4)
    store = GradientStore(problem.write(tmp_path_factory.mktemp("store")).uri)
    found = open_estimator(SubsetEstimationConfig(estimator=estimator, ridge=1.0), store).losses(masks)
    expected = problem.estimator(estimator=estimator).losses(masks)
    np.testing.assert_allclose(found.rows, expected.rows, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.blocks, expected.blocks, rtol=1e-4, atol=1e-6)


@ESTIMATORS
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), tasks=st.integers(1, 5), rows=st.integers(1, 10))
def test_losses_are_finite_and_no_subset_helps_without_information(
    synthetic: Any, estimator: str, seed: int, tasks: int, rows: int
) -> None:
    problem = synthetic.problem(seed, tasks, rows, dimension=4, blocks=2)
    problem.validation.feature[:] = 0
    losses = problem.estimator(estimator=estimator).losses(synthetic.subsets(tasks))
    assert losses.rows.shape == (2**tasks, 2 * rows)
    assert losses.blocks.shape == (2**tasks, 2)
    np.testing.assert_allclose(losses.rows, np.tile(losses.rows[0], (2**tasks, 1)))
    np.testing.assert_allclose(losses.rows[0], np.logaddexp(0, -problem.validation.margin))


@ESTIMATORS
def test_mean_losses_are_those_in_full_detail(synthetic: Any, estimator: str) -> None:
    found, masks = synthetic.problem(blocks=2).estimator(estimator=estimator), synthetic.subsets(4)
    np.testing.assert_array_equal(found.mean_losses(masks), found.losses(masks).estimates().loss)


@ESTIMATORS
def test_a_block_is_an_estimator_of_its_own_rescaled_columns(synthetic: Any, estimator: str) -> None:
    problem, masks = synthetic.problem(dimension=6, blocks=3), synthetic.subsets(4)
    unit = problem.statistics().mean_curvature
    found = problem.estimator(estimator=estimator, ridge=1.0).losses(masks).blocks
    for index in range(3):
        own = slice(2 * index, 2 * index + 2)
        columns = [
            synthetic.Rows(rows.margin, rows.feature[:, own] * np.sqrt(3))
            for rows in [*problem.train, problem.validation]
        ]
        alone = synthetic.Problem(dict(zip(problem.tasks, columns, strict=False)), *columns[-2:])
        ridge = unit / alone.statistics().mean_curvature
        expected = alone.estimator(estimator=estimator, ridge=ridge).mean_losses(masks)
        np.testing.assert_allclose(found[:, index], expected, rtol=1e-5)


@ESTIMATORS
def test_duplicated_tasks_have_the_same_estimate(synthetic: Any, estimator: str) -> None:
    problem = synthetic.problem(tasks=3)
    problem.tasks["task2"] = problem.tasks["task0"]
    losses = problem.estimator(estimator=estimator).losses(np.eye(3, dtype=bool)).estimates().loss
    assert losses[0] == losses[2] != losses[1]


def test_a_flipped_copy_of_the_target_hurts_and_a_true_copy_helps(synthetic: Any) -> None:
    generator = np.random.default_rng(0)
    direction = np.eye(6)[:1]
    tasks = {
        "copy": synthetic.signal(generator, 60, direction),
        "flipped": synthetic.signal(generator, 60, direction, flip=True),
    }
    problem = synthetic.Problem(
        tasks, synthetic.signal(generator, 20, direction), synthetic.signal(generator, 200, direction)
    )
    none, copy, flipped = (
        problem.estimator().losses(np.array([[0, 0], [1, 0], [0, 1]], bool)).estimates().loss
    )
    assert copy < none - 0.02
    assert flipped > none + 0.05


@ESTIMATORS
def test_the_standard_error_over_blocks_covers_the_projection_error_on_average(
    synthetic: Any, estimator: str
) -> None:
    masks, dimension = synthetic.subsets(3), 80
    squared_error, claimed = [], []
    for seed in range(4):
        exact = _low_rank_problem(synthetic, seed)
        ridge = 30 * exact.statistics().mean_curvature
        truth, _ = _estimates(exact, estimator, ridge, masks)
        for draw in range(6):
            generator = np.random.default_rng(draw)
            signs = generator.choice([-1.0, 1.0], (WIDTH, dimension)) / np.sqrt(dimension)
            rows = [synthetic.Rows(r.margin, r.feature @ signs) for r in [*exact.train, exact.validation]]
            problem = synthetic.Problem(dict(zip(exact.tasks, rows, strict=False)), *rows[-2:], blocks=4)
            loss, variance = _estimates(problem, estimator, ridge, masks)
            squared_error.append((loss - truth) ** 2)
            claimed.append(variance)
    assert 0.75 < np.sqrt(np.mean(claimed) / np.mean(squared_error)) < 1.33


def _estimates(problem: Any, name: str, ridge: float, masks: Any) -> tuple[Any, Any]:
    """Return losses and the variance of their means over blocks, with a ridge a row in absolute terms."""
    estimator = problem.estimator(estimator=name, ridge=ridge / problem.statistics().mean_curvature)
    losses = estimator.losses(masks)
    return losses.rows.mean(axis=1), variance_of_mean(losses.blocks)


def _low_rank_problem(synthetic: Any, seed: int) -> Any:
    """Gradients of few directions, as those of fine-tuning are."""
    generator = np.random.default_rng(seed)
    basis = generator.normal(size=(20, WIDTH)) / np.sqrt(WIDTH)

    def rows(count: int, shift: Any) -> Any:
        inputs = (generator.normal(size=(count, 20)) + shift) @ basis
        return synthetic.Rows(generator.normal(0.5, 1.5, count), 2 * inputs)

    target = 0.5 * generator.normal(size=20)
    tasks = {f"task{index}": rows(40, 0.5 * generator.normal(size=20)) for index in range(3)}
    return synthetic.Problem(tasks, rows(40, target), rows(80, target))


def test_the_right_answers_probability_is_what_the_margin_says(synthetic: Any) -> None:
    problem = synthetic.problem()
    start = problem.estimator(ridge=1e12).losses(np.zeros((1, 4), bool)).rows[0]
    np.testing.assert_allclose(np.exp(-start), expit(problem.validation.margin), rtol=1e-6)
