"""Which subsets are fine-tuned on next: what promises most, spread out, corrected by what runs have shown."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.selection.finalists import next_subsets
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger

ENDS = np.array([[False] * 5, [True] * 5])
CONFIG = SubsetEstimationConfig()


@pytest.fixture
def ledger(synthetic: Any) -> EstimateLedger:
    """Return estimates of all subsets of five tasks."""
    found: EstimateLedger = synthetic.problem(tasks=5).ledger()
    found.mean_losses(synthetic.subsets(5), "all")
    return found


def test_the_lowest_estimate_comes_first_and_no_subset_twice(ledger: EstimateLedger) -> None:
    lowest = next(mask for mask in ledger.by_loss() if 0 < mask.sum() < 5)
    picked = next_subsets(ledger, CONFIG, ENDS, None, 6)
    assert (picked[0] == lowest).all()
    assert len({mask.tobytes() for mask in [*picked, *ENDS]}) == 8


def test_they_are_further_apart_than_the_lowest_estimates(synthetic: Any) -> None:
    generator, direction = np.random.default_rng(0), np.eye(8)[:2]
    tasks = {f"task{k}": synthetic.signal(generator, 40, direction, flip=k >= 5) for k in range(8)}
    target, validation = (synthetic.signal(generator, rows, direction) for rows in (15, 200))
    ledger = synthetic.Problem(tasks, target, validation).ledger()
    ledger.mean_losses(synthetic.subsets(8), "all")
    ends = np.array([[False] * 8, [True] * 8])
    picked = next_subsets(ledger, CONFIG, ends, None, 6)
    lowest = [mask for mask in ledger.by_loss() if 0 < mask.sum() < 8][:6]
    assert _spread(picked) > _spread(np.array(lowest))


def test_what_runs_show_to_be_better_than_estimated_draws_the_next_ones(ledger: EstimateLedger) -> None:
    """The runs differ from the estimates by a level, which says nothing, and by what task 0 does."""
    trained = np.array([[task == each for each in range(5)] for task in range(5)])
    losses = ledger.mean_losses(trained, "test") + 1.0
    losses[0] -= 0.5
    assert next_subsets(ledger, CONFIG, trained, losses, 3)[:, 0].all()
    losses[0] += 1.0
    assert not next_subsets(ledger, CONFIG, trained, losses, 3)[:, 0].any()


def test_only_subsets_that_may_be_chosen_are_trained(ledger: EstimateLedger) -> None:
    limited = SubsetEstimationConfig(max_tasks=2, required_tasks=["task1"], excluded_tasks=["task3"])
    picked = next_subsets(ledger, limited, ENDS, None, 10)
    assert len(picked) == 4
    assert picked[:, 1].all()
    assert not picked[:, 3].any()
    assert picked.sum(axis=1).max() == 2


def test_there_may_be_fewer_subsets_than_asked_for(synthetic: Any) -> None:
    ledger = synthetic.problem(tasks=2).ledger()
    ledger.mean_losses(synthetic.subsets(2), "all")
    ends = np.array([[False] * 2, [True] * 2])
    assert len(next_subsets(ledger, CONFIG, ends, None, 4)) == 2
    assert len(next_subsets(ledger, CONFIG, synthetic.subsets(2), None, 4)) == 0
    assert len(next_subsets(ledger, CONFIG, ends, None, 0)) == 0


def _spread(masks: Any) -> float:
    return float(np.mean([(one != other).sum() for one in masks for other in masks]))
