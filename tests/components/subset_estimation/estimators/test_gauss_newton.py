"""The Gauss-Newton weights are those of a plain dense solve, and of the first Newton step of the objective."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.gauss_newton import GaussNewton
from gradsift.components.subset_estimation.estimators.ridge import Ridge, ridge_of
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics


def _weights(statistics: TaskStatistics, masks: Any, **config: Any) -> Any:
    ridge = ridge_of(SubsetEstimationConfig(**({"ridge": 1.0} | config)), statistics)
    return GaussNewton(statistics, ridge).weights(masks)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 100),
    tasks=st.integers(1, 5),
    rows=st.integers(1, 12),
    dimension=st.integers(1, 9),
    ridge=st.floats(0.01, 100),
    scaling=st.sampled_from(["per_row", "absolute"]),
)
def test_every_subset_equals_a_dense_solve_over_its_rows(
    synthetic: Any, seed: int, tasks: int, rows: int, dimension: int, ridge: float, scaling: str
) -> None:
    problem = synthetic.problem(seed, tasks, rows, dimension)
    masks = synthetic.subsets(tasks)
    found = _weights(problem.statistics(), masks, ridge=ridge, ridge_scaling=scaling)
    unit = problem.statistics().mean_curvature
    half = len(problem.target.margin) + sum(len(task.margin) for task in problem.tasks.values()) / 2
    for mask, weights in zip(masks, found, strict=True):
        members = [rows for rows, member in zip(problem.train, [*mask, True], strict=True) if member]
        margin = np.concatenate([rows.margin for rows in members])
        feature = np.concatenate([rows.feature for rows in members])
        count = len(margin) if scaling == "per_row" else half
        hessian = feature.T @ (feature * (expit(margin) * expit(-margin))[:, None])
        system = hessian + ridge * unit * count * np.eye(dimension)
        expected = np.linalg.solve(system, feature.T @ expit(-margin))
        np.testing.assert_allclose(weights, expected, rtol=1e-7, atol=1e-10)


def test_with_exact_probes_it_is_the_first_newton_step_of_the_softmax_objective() -> None:
    generator = np.random.default_rng(0)
    rows, classes, dimension, ridge = 30, 4, 5, 2.0
    logits = generator.normal(size=(rows, classes))
    jacobian = generator.normal(size=(rows, classes, dimension))
    answer = generator.integers(classes, size=rows)
    p = softmax(logits, axis=1)
    gradient = np.einsum("nc,ncd->d", p - np.eye(classes)[answer], jacobian)
    by_label = np.einsum("nkc,ncd->nkd", p[:, None, :] - np.eye(classes), jacobian)
    probes = np.sqrt(classes * p)[:, :, None] * by_label
    curvature = np.einsum("nki,nkj->ij", probes, probes) / classes
    statistics = TaskStatistics(
        target="target",
        tasks=("empty",),
        blocks=1,
        rows=np.array([0.0, rows]),
        gradient=np.stack([np.zeros(dimension), gradient]),
        curvature=np.stack([np.zeros((dimension, dimension)), curvature]),
        squared_step_norm=0.0,
        validation_margin=np.zeros(1),
        validation_base_margins=np.zeros(1),
        validation_positions=np.ones(1),
        validation_gradient=np.zeros((1, dimension)),
    )
    found = GaussNewton(statistics, Ridge(ridge / rows, None)).weights(np.array([[False]]))[0]

    def objective(weights: Any) -> float:
        scores = logits + jacobian @ weights
        picked = scores[np.arange(rows), answer]
        return float((np.log(np.exp(scores).sum(axis=1)) - picked).sum() + ridge / 2 * weights @ weights)

    np.testing.assert_allclose(found, _newton_step(objective, dimension), rtol=1e-4)


def _newton_step(objective: Any, dimension: int, h: float = 1e-3) -> Any:
    """Return -(Hessian)^-1 gradient at 0 by central differences."""
    steps = h * np.eye(dimension)
    gradient = [(objective(step) - objective(-step)) / (2 * h) for step in steps]
    hessian = [
        [
            (objective(a + b) - objective(a - b) - objective(b - a) + objective(-a - b)) / (4 * h * h)
            for b in steps
        ]
        for a in steps
    ]
    return -np.linalg.solve(hessian, gradient)


def test_permuting_the_tasks_permutes_the_results(synthetic: Any) -> None:
    problem, masks = synthetic.problem(tasks=4), synthetic.subsets(4)
    names = list(problem.tasks)[::-1]
    turned = synthetic.Problem(
        {name: problem.tasks[name] for name in names}, problem.target, problem.validation
    )
    np.testing.assert_allclose(
        _weights(problem.statistics(), masks), _weights(turned.statistics(), masks[:, ::-1]), rtol=1e-9
    )


def test_a_task_with_zero_gradients_changes_nothing_with_an_absolute_ridge(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=2)
    problem.tasks["task1"].feature[:] = 0
    without, with_it = _weights(
        problem.statistics(), np.array([[True, False], [True, True]]), ridge_scaling="absolute"
    )
    np.testing.assert_allclose(without, with_it, rtol=1e-12)


@pytest.mark.parametrize(("scaling", "same"), [("per_row", True), ("absolute", False)])
def test_twice_the_same_rows_are_the_same_recipe_per_row_and_twice_the_steps_with_absolute(
    synthetic: Any, scaling: str, same: bool
) -> None:
    problem = synthetic.problem(tasks=1)
    problem.tasks["task0"] = problem.target
    alone, doubled = _weights(problem.statistics(), np.array([[False], [True]]), ridge_scaling=scaling)
    assert np.allclose(alone, doubled, rtol=1e-9) == same
    assert same or np.linalg.norm(doubled) > np.linalg.norm(alone)


def test_a_larger_ridge_takes_a_shorter_step(synthetic: Any) -> None:
    statistics, mask = synthetic.problem().statistics(), np.ones((1, 4), bool)
    lengths = [
        np.linalg.norm(_weights(statistics, mask, ridge=ridge)) for ridge in (0.01, 0.1, 1.0, 10.0, 100.0)
    ]
    assert (np.diff(lengths) < 0).all()


def test_weights_do_not_depend_on_the_scale_of_the_projection(synthetic: Any) -> None:
    statistics, masks = synthetic.problem().statistics(), synthetic.subsets(4)
    scaled = replace(statistics, gradient=statistics.gradient * 100, curvature=statistics.curvature * 100**2)
    np.testing.assert_allclose(_weights(scaled, masks) * 100, _weights(statistics, masks), rtol=1e-9)
