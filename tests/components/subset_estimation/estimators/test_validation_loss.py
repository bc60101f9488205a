"""The loss of validation rows at any weights, in the form that their rows ask for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator, solved_estimator
from gradsift.components.subset_estimation.estimators.validation_loss import CrossEntropy, Quadratic
from gradsift.components.subset_estimation.statistics.task_statistics import SecondOrderRows


def test_cross_entropy_is_exact_for_linear_margins(synthetic: Any) -> None:
    rows, weights = synthetic.problem().validation, np.random.default_rng(0).normal(size=(5, 8))
    expected = np.logaddexp(0, -(rows.margin + weights @ rows.feature.T))
    evaluation = CrossEntropy(rows.margin, rows.feature, np.ones(len(rows.margin)))
    np.testing.assert_allclose(evaluation.row_losses(weights), expected, rtol=1e-9)
    np.testing.assert_allclose(evaluation.mean_losses(weights), expected.mean(axis=1), rtol=1e-9)


def test_the_loss_of_a_label_is_that_of_the_whole_answer_a_token(synthetic: Any, tmp_path: Path) -> None:
    """With every loss, gradient and curvature divided by the tokens, fine-tuning leads to the same weights."""
    problem, masks = synthetic.problem(blocks=2), synthetic.subsets(4)
    config = SubsetEstimationConfig(estimator="gauss_newton")
    single, double = (
        open_estimator(config, GradientStore(problem.write(tmp_path / answer, answer, tokens).uri))
        for answer, tokens in (("class", 1), ("label", 4))
    )
    assert single.evaluation == double.evaluation == "cross_entropy"
    np.testing.assert_allclose(4 * double.losses(masks).rows, single.losses(masks).rows, rtol=1e-4)
    np.testing.assert_allclose(4 * double.mean_losses(masks), single.mean_losses(masks), rtol=1e-4)


def test_the_quadratic_form_is_the_sum_of_its_terms_row_by_row() -> None:
    generator = np.random.default_rng(0)
    loss, gradient, probe = (generator.normal(size=shape) for shape in [(6,), (6, 4), (6, 3, 4)])
    weights = generator.normal(size=(5, 4))
    evaluation = Quadratic(loss, gradient, probe)
    expected = [
        [
            loss[row] + gradient[row] @ w + w @ (probe[row].T @ probe[row] / 3) @ w / 2
            for row in range(len(loss))
        ]
        for w in weights
    ]
    np.testing.assert_allclose(evaluation.row_losses(weights), expected, rtol=1e-12)
    np.testing.assert_allclose(evaluation.mean_losses(weights), np.mean(expected, axis=1), rtol=1e-12)


def test_with_exact_probes_both_forms_agree_to_third_order(synthetic: Any) -> None:
    rows = synthetic.problem().validation
    exact = CrossEntropy(rows.margin, rows.feature, np.ones(len(rows.margin)))
    quadratic = Quadratic(np.logaddexp(0, -rows.margin), rows.gradient, rows.probe)
    direction = np.random.default_rng(0).normal(size=(1, 8))
    errors = [
        np.abs(exact.row_losses(step * direction) - quadratic.row_losses(step * direction)).max()
        for step in (1e-2, 1e-3)
    ]
    assert errors[1] < errors[0] / 500


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_estimator_takes_the_form_that_the_rows_ask_for(synthetic: Any, blocks: int) -> None:
    problem = synthetic.problem(blocks=blocks)
    statistics, masks = problem.statistics(), synthetic.subsets(4)
    rows = SecondOrderRows(np.logaddexp(0, -problem.validation.margin), problem.validation.probe)
    config = SubsetEstimationConfig(ridge=100.0)
    exact = solved_estimator(config, statistics, None)
    quadratic = solved_estimator(config, replace(statistics, validation_rows=rows), None)
    assert (exact.evaluation, quadratic.evaluation) == ("cross_entropy", "quadratic")
    np.testing.assert_allclose(quadratic.losses(masks).rows, exact.losses(masks).rows, atol=1e-3)
    np.testing.assert_allclose(quadratic.losses(masks).blocks, exact.losses(masks).blocks, atol=1e-3)
    np.testing.assert_array_equal(quadratic.mean_losses(masks), quadratic.losses(masks).estimates().loss)
