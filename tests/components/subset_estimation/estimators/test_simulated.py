"""The simulated run is gradient descent in the linear model, as a slow loop and real training find it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.subset_estimation.estimators import simulated
from gradsift.components.subset_estimation.estimators.run_rates import RunRates, learning_rate_factors
from gradsift.components.subset_estimation.estimators.simulated import Simulated


def _run(problem: Any, recipe: TrainingRecipe, etas: Any, dtype: Any = np.float64) -> Simulated:
    start = problem.start(dtype)
    return Simulated(start.rows, RunRates(recipe, start.counts), np.array(etas))


def _loop(problem: Any, members: Any, recipe: TrainingRecipe, eta: float) -> Any:
    """Train on the tasks [n + 1] row by row and step by step."""
    start = problem.start()
    sizes = [len(rows.margin) for rows, member in zip(problem.train, members, strict=True) if member]
    total = sum(size**recipe.sampling_exponent for size in sizes)
    weights = np.zeros(start.rows.feature.shape[1])
    for factor in learning_rate_factors(recipe.optimizer_steps(sum(sizes))):
        step = np.zeros_like(weights)
        for task, member in enumerate(members):
            rows = range(start.rows.starts[task], start.rows.starts[task + 1]) if member else ()
            for row in rows:
                feature = start.rows.feature[row]
                wrong = expit(-(start.rows.margin[row] + feature @ weights))
                share = len(rows) ** recipe.sampling_exponent / total / len(rows)
                step += share * wrong * feature
        weights = weights + eta * factor * step
    return weights


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    tasks=st.integers(1, 3),
    rows=st.integers(1, 6),
    recipe=st.builds(
        TrainingRecipe,
        steps=st.integers(0, 12),
        epochs=st.floats(0.5, 3),
        batch_size=st.integers(1, 8),
        sampling_exponent=st.floats(0, 1),
    ),
)
def test_it_is_what_a_slow_loop_finds_for_every_subset_and_rate(
    synthetic: Any, seed: int, tasks: int, rows: int, recipe: TrainingRecipe
) -> None:
    problem, etas = synthetic.problem(seed, tasks, rows, 3), [0.05, 0.4]
    memberships = np.column_stack([synthetic.subsets(tasks), np.ones(2**tasks)])
    found = _run(problem, recipe, etas).weights(memberships)
    expected = [[_loop(problem, members, recipe, eta) for eta in etas] for members in memberships]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_float32_is_enough(synthetic: Any) -> None:
    problem, recipe = synthetic.problem(rows=50), TrainingRecipe(steps=40)
    memberships = np.column_stack([synthetic.subsets(4), np.ones(16)])
    exact, single = (
        _run(problem, recipe, [0.01, 0.1], dtype).weights(memberships) for dtype in (np.float64, np.float32)
    )
    assert np.abs(single - exact).max() < 1e-5 * np.abs(exact).max()


def test_without_a_rate_nothing_moves_and_one_step_is_the_gradient_dot_product(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=2)
    memberships = np.array([[1.0, 0, 1], [1, 1, 1]])
    start = problem.start()
    still, small = (
        _run(problem, TrainingRecipe(steps=2), [eta]).weights(memberships)[:, 0] for eta in (0.0, 1e-6)
    )
    assert (still == 0).all()
    # The second of two steps is of the full rate, the first one of the schedule is of none.
    rates = RunRates(TrainingRecipe(steps=2), start.counts)
    gradient = rates.task_shares(memberships) @ start.gradient
    np.testing.assert_allclose(small, -1e-6 * gradient, rtol=1e-9)
    loss = start.validation_feature * -expit(-start.validation_margin)[:, None]
    fall = (small @ loss.T).mean(axis=1)
    np.testing.assert_allclose(fall, -1e-6 * gradient @ loss.mean(axis=0), rtol=1e-9)


def test_a_linear_model_is_trained_as_torch_trains_it(synthetic: Any) -> None:
    torch = pytest.importorskip("torch")
    problem, eta, recipe = synthetic.problem(tasks=1, rows=30), 0.3, TrainingRecipe(steps=25)
    start = problem.start()
    weights = torch.zeros(start.rows.feature.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=1.0)
    margin, feature = torch.tensor(start.rows.margin), torch.tensor(start.rows.feature)
    for factor in learning_rate_factors(25):
        optimizer.param_groups[0]["lr"] = eta * factor
        optimizer.zero_grad()
        torch.nn.functional.softplus(-(margin + feature @ weights)).mean().backward()
        optimizer.step()
    found = _run(problem, recipe, [eta]).weights(np.ones((1, 2)))[0, 0]
    np.testing.assert_allclose(found, weights.detach().numpy(), rtol=1e-5)


def test_it_does_not_depend_on_how_many_subsets_are_trained_at_once(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(synthetic.problem(), TrainingRecipe(steps=5), [0.1, 0.2])
    memberships = np.column_stack([synthetic.subsets(4), np.ones(16)])
    whole = run.weights(memberships)
    monkeypatch.setattr(simulated, "MARGIN_BATCH", 1)
    np.testing.assert_allclose(run.weights(memberships), whole, rtol=1e-12)


def test_a_label_of_several_tokens_weighs_as_the_mean_over_them(synthetic: Any) -> None:
    run = _run(synthetic.problem(), TrainingRecipe(steps=5), [0.1])
    half = _run(synthetic.problem(), TrainingRecipe(steps=5), [0.2])
    half.rows.positions[:] = 2
    members = np.ones((1, 5))
    np.testing.assert_allclose(half.weights(members), run.weights(members), rtol=1e-12)
