"""The selection methods find good subsets where the truth is known."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.subset_estimation.selection import (
    best_of_m,
    forward_stepwise,
    highest,
    random_ensemble,
    random_ensemble_scores,
    random_subsets,
)


class KnownLosses:
    """A ledger whose losses are a given function of the subset."""

    def __init__(self, tasks: int, loss: Any) -> None:
        self.tasks = [str(index) for index in range(tasks)]
        self.loss = loss

    def estimate(self, masks: Any, source: str) -> Any:
        return np.array([self.loss(mask) for mask in masks])


def _known(tasks: int, loss: Any) -> Any:
    return KnownLosses(tasks, loss)


def _additive(generator: np.random.Generator, tasks: int) -> Any:
    effects = generator.normal(size=tasks)
    return lambda mask: 5 + effects @ mask


def _redundant(generator: np.random.Generator, tasks: int) -> Any:
    """Each task covers a few of some needs; covering one again brings nothing, and every task costs something."""
    covers = generator.random((tasks, 6)) < 0.3
    worth, cost = generator.uniform(0.5, 2, 6), generator.uniform(0.05, 0.4, tasks)
    return lambda mask: 20 - worth @ covers[mask].any(axis=0) + cost @ mask


@pytest.mark.parametrize("kind", [_additive, _redundant])
@pytest.mark.parametrize("seed", range(5))
def test_forward_stepwise_reaches_at_least_the_best_of_300_random_subsets(kind: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    ledger = _known(14, kind(generator, 14))
    path = forward_stepwise(ledger)
    best = ledger.estimate(generator.random((300, 14)) < 0.5, "random").min()
    assert ledger.loss(path[-1].mask) <= best


def test_forward_stepwise_finds_the_best_subset_of_additive_effects() -> None:
    effects = np.array([0.3, -0.5, 0.1, -0.1, -0.7])
    path = forward_stepwise(_known(5, lambda mask: 2 + effects @ mask))
    assert [(step.action, step.added) for step in path] == [
        ("start", None),
        ("add", 4),
        ("add", 1),
        ("add", 3),
    ]
    np.testing.assert_array_equal(path[-1].mask, effects < 0)


def test_a_task_that_later_ones_make_useless_is_dropped() -> None:
    losses = {(): 9.0, (0,): 5.0, (1,): 7.0, (2,): 7.0, (0, 1): 4.0, (0, 2): 4.5, (0, 1, 2): 3.0, (1, 2): 1.0}
    path = forward_stepwise(_known(3, lambda mask: losses[tuple(np.flatnonzero(mask))]))
    assert [(step.action, step.added, step.removed) for step in path] == [
        ("start", None, None),
        ("add", 0, None),
        ("add", 1, None),
        ("add", 2, None),
        ("drop", None, 0),
    ]


def test_a_swap_leaves_a_subset_that_no_addition_or_drop_improves() -> None:
    losses = {(): 9.0, (0,): 5.0, (1,): 6.0, (2,): 6.0, (0, 1): 5.5, (0, 2): 5.2, (1, 2): 7.0, (0, 1, 2): 8.0}
    stuck = forward_stepwise(_known(3, lambda mask: losses[tuple(np.flatnonzero(mask))]))
    assert [step.added for step in stuck] == [None, 0]
    losses |= {(0, 1): 4.0, (1, 2): 3.0, (0, 2): 6.0}
    path = forward_stepwise(_known(3, lambda mask: losses[tuple(np.flatnonzero(mask))]))
    assert (path[-1].action, path[-1].added, path[-1].removed) == ("swap", 2, 0)


def test_after_a_swap_the_search_starts_over() -> None:
    losses = {(0,): 5.0, (0, 1): 4.0, (1, 2): 3.0, (1, 2, 3): 2.0}
    path = forward_stepwise(_known(4, lambda mask: losses.get(tuple(np.flatnonzero(mask)), 8.0)))
    assert [(step.action, step.added) for step in path[1:]] == [
        ("add", 0),
        ("add", 1),
        ("swap", 2),
        ("add", 3),
    ]


def test_ties_go_to_the_first_task_and_equal_losses_are_no_gain() -> None:
    path = forward_stepwise(_known(4, lambda mask: 1.0 - mask.any()))
    assert [step.added for step in path] == [None, 0]
    assert len(forward_stepwise(_known(4, lambda mask: 1.0))) == 1


def test_a_duplicate_of_the_best_task_is_the_second_choice(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=4, seed=2)
    first = forward_stepwise(problem.ledger())[1].added
    assert first is not None
    names = [*problem.tasks, "duplicate"]
    rows = [*problem.tasks.values(), list(problem.tasks.values())[first]]
    problem.tasks = dict(zip(names, rows, strict=True))
    assert forward_stepwise(problem.ledger())[1].added == first


def test_flipped_tasks_are_avoided_and_helpful_ones_found(synthetic: Any) -> None:
    generator = np.random.default_rng(0)
    direction = np.eye(10)[:2]
    tasks = {
        f"task{index}": synthetic.signal(generator, 40, direction, flip=index >= 4) for index in range(8)
    }
    problem = synthetic.Problem(
        tasks, synthetic.signal(generator, 15, direction), synthetic.signal(generator, 300, direction)
    )
    ledger = problem.ledger()
    chosen = forward_stepwise(ledger)[-1].mask
    assert not chosen[4:].any()
    assert chosen[:4].any()
    sampled = random_subsets(8, 4, 200, generator)
    np.testing.assert_array_equal(
        random_ensemble(sampled, ledger.estimate(sampled, "random"), 0), np.arange(8) < 4
    )


def test_ensemble_scores_are_the_means_of_the_definition() -> None:
    generator = np.random.default_rng(0)
    masks, losses = random_subsets(6, 3, 50, generator), generator.random(50)
    scores = random_ensemble_scores(masks, losses)
    for task in range(6):
        assert scores[task] == pytest.approx(losses.mean() - losses[masks[:, task]].mean())
    np.testing.assert_array_equal(random_ensemble(masks, losses, 0), scores > 0)
    np.testing.assert_array_equal(
        np.sort(np.argsort(-scores)[:2]), np.flatnonzero(random_ensemble(masks, losses, 2))
    )


def test_a_task_in_no_sampled_subset_has_no_score() -> None:
    scores = random_ensemble_scores(np.array([[True, False]]), np.array([1.0]))
    np.testing.assert_array_equal(scores, 0)
    assert not random_ensemble(np.array([[True, False]]), np.array([1.0]), 0).any()


def test_best_of_m_is_the_lowest_and_the_first_of_equals() -> None:
    masks = np.array([[True, False], [False, True], [True, True]])
    np.testing.assert_array_equal(best_of_m(masks, np.array([2.0, 1.0, 1.0])), masks[1])


def test_random_subsets_have_their_size_and_are_uniform() -> None:
    masks = random_subsets(5, 2, 20_000, np.random.default_rng(0))
    assert (masks.sum(axis=1) == 2).all()
    _, counts = np.unique(masks, axis=0, return_counts=True)
    assert len(counts) == 10
    assert np.abs(counts / 2000 - 1).max() < 0.1


@pytest.mark.parametrize(("count", "expected"), [(0, []), (2, [1, 2]), (9, [0, 1, 2, 3])])
def test_highest_takes_the_first_of_equals(count: int, expected: list[int]) -> None:
    assert list(np.flatnonzero(highest(np.array([0.0, 2.0, 1.0, 1.0]), count))) == expected
