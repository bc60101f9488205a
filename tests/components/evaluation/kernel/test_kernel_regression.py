"""The kernel's own answers, against the product's estimator and against regression in the rows' kernel."""

import numpy as np
import pytest
from scipy.optimize import minimize

from gradsift.components.evaluation.kernel.kernel_regression import ridge_curve, ridge_unit
from gradsift.components.evaluation.kernel.margin_rows import MarginRows
from gradsift.components.shared.records.kernel_report import RIDGES, KernelRegression


def rows_of(count: int, seed: int, positions: float = 1.0) -> MarginRows:
    """Rows whose margins rise along a direction that they have in common."""
    generator = np.random.default_rng(seed)
    gradient = generator.normal(size=(count, 5)) + 0.5
    return MarginRows(generator.normal(size=count), gradient, np.full(count, positions))


def test_answers_are_those_of_kernel_logistic_regression() -> None:
    train, validation = rows_of(12, 0), rows_of(9, 1)
    kernel, across = train.gradient @ train.gradient.T, validation.gradient @ train.gradient.T
    unit = np.square(train.gradient).sum() / 4 / 5
    for answers in ridge_curve(train, validation, two_labels=True):

        def objective(dual: np.ndarray, ridge: float = answers.ridge * unit) -> float:
            margin = train.margin + kernel @ dual
            return float(np.logaddexp(0, -margin).sum() + ridge / 2 * dual @ kernel @ dual)

        margin = validation.margin + across @ minimize(objective, np.zeros(12), tol=1e-13).x
        assert answers.loss == pytest.approx(np.logaddexp(0, -margin).mean(), rel=1e-3)
        assert answers.accuracy == (margin > 0).mean()


def test_a_large_ridge_gives_the_start_and_a_small_one_moves_away() -> None:
    train, validation = rows_of(12, 0), rows_of(9, 1)
    curve = ridge_curve(train, validation, two_labels=True)
    start = np.logaddexp(0, -validation.margin).mean()
    assert [each.ridge for each in curve] == list(RIDGES)
    assert abs(curve[-1].loss - start) < 0.02 < abs(curve[0].loss - start)
    report = KernelRegression(rows=12, train_rows=12, stored=False, curve=curve)
    assert report.best.loss == min(each.loss for each in curve)


def test_only_two_classes_have_an_accuracy() -> None:
    assert {each.accuracy for each in ridge_curve(rows_of(8, 0), rows_of(4, 1), two_labels=False)} == {None}


def test_losses_of_several_tokens_are_means_over_them() -> None:
    """Halved losses of train rows have half the curvature: a ridge in its units leads to the same weights."""
    one, two = (
        ridge_curve(rows_of(8, 0, tokens), rows_of(4, 1, tokens), two_labels=False) for tokens in (1.0, 2.0)
    )
    assert [each.loss for each in two] == pytest.approx([each.loss / 2 for each in one])
    assert ridge_unit(rows_of(8, 0, 2.0)) == pytest.approx(ridge_unit(rows_of(8, 0)) / 2)
