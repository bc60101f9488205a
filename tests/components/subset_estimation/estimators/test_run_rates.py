"""Steps and shares are those of the product's own training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.training.example_order import example_order, shares_by_size
from gradsift.components.subset_estimation.estimators.run_rates import RunRates, learning_rate_factors


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 40, 119])
def test_the_learning_rate_is_that_of_the_trainers_schedule(steps: int) -> None:
    torch = pytest.importorskip("torch")
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = get_linear_schedule_with_warmup(optimizer, max(1, steps // 10), steps)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(learning_rate_factors(steps), rates, atol=1e-12)


def test_epochs_give_larger_subsets_more_steps() -> None:
    rates = RunRates(TrainingRecipe(epochs=2, batch_size=10), np.array([30.0, 20.0]))
    steps = rates.steps(np.array([[0.0, 1.0], [1.0, 1.0]]))
    assert steps.shape == (2, 10)
    np.testing.assert_array_equal(steps[0], [*learning_rate_factors(4), *np.zeros(6)])
    np.testing.assert_array_equal(steps[1], learning_rate_factors(10))


@pytest.mark.parametrize("stride", [1, 3, 7, 50])
def test_a_stride_keeps_the_sum_of_the_steps(stride: int) -> None:
    rates = RunRates(TrainingRecipe(steps=40), np.array([30.0, 20.0]), stride)
    steps = rates.steps(np.ones((1, 2)))
    assert steps.shape == (1, -(-40 // stride))
    assert steps.sum() == pytest.approx(learning_rate_factors(40).sum())


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(1, 60), min_size=2, max_size=4), exponent=st.floats(0, 1))
def test_shares_are_how_often_the_run_draws_each_task(counts: list[int], exponent: float) -> None:
    rates = RunRates(TrainingRecipe(steps=1, sampling_exponent=exponent), np.array(counts, float))
    sizes = {str(i): n for i, n in enumerate(counts)}
    drawn = example_order(sizes, shares_by_size(sizes, exponent), 40 * sum(counts), 0)
    task = np.repeat(np.arange(len(counts)), counts)[drawn]
    found = rates.task_shares(np.ones((1, len(counts))))[0]
    assert found == pytest.approx(np.bincount(task, minlength=len(counts)) / len(drawn), abs=0.03)
