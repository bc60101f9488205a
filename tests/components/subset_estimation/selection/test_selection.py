"""The selection methods find good subsets where the truth is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradsift.components.subset_estimation.estimators.uncertainty import Losses
from gradsift.components.subset_estimation.selection import selection as module
from gradsift.components.subset_estimation.selection.constraints import Constraints
from gradsift.components.subset_estimation.selection.selection import (
    Step,
    best_of_m,
    forward_stepwise,
    random_ensemble,
    random_ensemble_scores,
    smallest_within_one_standard_error,
)


class KnownLosses:
    """A ledger whose losses are a given function of the subset."""

    def __init__(self, tasks: int, loss: Any) -> None:
        self.tasks = [str(index) for index in range(tasks)]
        self.loss = loss

    def mean_losses(self, masks: Any, source: str) -> Any:
        return np.array([self.loss(mask) for mask in masks])

    def promising(self, masks: Any) -> Any:
        return np.arange(len(masks))


def _known(tasks: int, loss: Any) -> Any:
    return KnownLosses(tasks, loss)


def _search(ledger: Any, **limits: Any) -> list[Step]:
    return forward_stepwise(ledger, replace(Constraints.none(len(ledger.tasks)), **limits))


def _random(tasks: int, size: int, count: int, generator: np.random.Generator) -> Any:
    return Constraints.none(tasks).random_subsets(size, count, generator)


def _tasks(*members: int, of: int) -> Any:
    return np.isin(np.arange(of), members)


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
    path = _search(ledger)
    best = ledger.mean_losses(generator.random((300, 14)) < 0.5, "random").min()
    assert ledger.loss(path[-1].mask) <= best


def test_forward_stepwise_finds_the_best_subset_of_additive_effects() -> None:
    effects = np.array([0.3, -0.5, 0.1, -0.1, -0.7])
    path = _search(_known(5, lambda mask: 2 + effects @ mask))
    assert [(step.action, step.added) for step in path] == [
        ("start", None),
        ("add", 4),
        ("add", 1),
        ("add", 3),
    ]
    np.testing.assert_array_equal(path[-1].mask, effects < 0)


def test_a_task_that_later_ones_make_useless_is_dropped() -> None:
    losses = {(): 9.0, (0,): 5.0, (1,): 7.0, (2,): 7.0, (0, 1): 4.0, (0, 2): 4.5, (0, 1, 2): 3.0, (1, 2): 1.0}
    path = _search(_known(3, lambda mask: losses[tuple(np.flatnonzero(mask))]))
    assert [(step.action, step.added, step.removed) for step in path] == [
        ("start", None, None),
        ("add", 0, None),
        ("add", 1, None),
        ("add", 2, None),
        ("drop", None, 0),
    ]


def test_a_swap_leaves_a_subset_that_no_addition_or_drop_improves() -> None:
    losses = {(): 9.0, (0,): 5.0, (1,): 6.0, (2,): 6.0, (0, 1): 5.5, (0, 2): 5.2, (1, 2): 7.0, (0, 1, 2): 8.0}
    stuck = _search(_known(3, lambda mask: losses[tuple(np.flatnonzero(mask))]))
    assert [step.added for step in stuck] == [None, 0]
    losses |= {(0, 1): 4.0, (1, 2): 3.0, (0, 2): 6.0}
    path = _search(_known(3, lambda mask: losses[tuple(np.flatnonzero(mask))]))
    assert (path[-1].action, path[-1].added, path[-1].removed) == ("swap", 2, 0)


def test_after_a_swap_the_search_starts_over() -> None:
    losses = {(0,): 5.0, (0, 1): 4.0, (1, 2): 3.0, (1, 2, 3): 2.0}
    path = _search(_known(4, lambda mask: losses.get(tuple(np.flatnonzero(mask)), 8.0)))
    assert [(step.action, step.added) for step in path[1:]] == [
        ("add", 0),
        ("add", 1),
        ("swap", 2),
        ("add", 3),
    ]


def test_ties_go_to_the_first_task_and_equal_losses_are_no_gain() -> None:
    path = _search(_known(4, lambda mask: 1.0 - mask.any()))
    assert [step.added for step in path] == [None, 0]
    assert len(_search(_known(4, lambda mask: 1.0))) == 1


def test_a_duplicate_of_the_best_task_is_the_second_choice(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=4, seed=2)
    first = _search(problem.ledger())[1].added
    assert first is not None
    names = [*problem.tasks, "duplicate"]
    rows = [*problem.tasks.values(), list(problem.tasks.values())[first]]
    problem.tasks = dict(zip(names, rows, strict=True))
    assert _search(problem.ledger())[1].added == first


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
    chosen = _search(ledger)[-1].mask
    assert not chosen[4:].any()
    assert chosen[:4].any()
    sampled = _random(8, 4, 200, generator)
    ensemble = random_ensemble(sampled, ledger.mean_losses(sampled, "random"), Constraints.none(8))
    np.testing.assert_array_equal(ensemble, np.arange(8) < 4)


def _noise_suite(synthetic: Any, generator: np.random.Generator) -> Any:
    """Eight tasks that help, each with another share of wrong answers, and eight with random ones."""
    direction = np.eye(12)[:3]
    tasks = {}
    for index in range(16):
        wrong = 0.5 if index >= 8 else 0.05 * index
        right, flipped = 40 - round(40 * wrong), round(40 * wrong)
        parts = [synthetic.signal(generator, right, direction)]
        parts += [synthetic.signal(generator, flipped, direction, flip=True)] if flipped else []
        tasks[f"task{index}"] = synthetic.Rows(
            np.concatenate([part.margin for part in parts]), np.concatenate([part.feature for part in parts])
        )
    target, validation = (synthetic.signal(generator, rows, direction) for rows in (12, 300))
    return synthetic.Problem(tasks, target, validation)


def _redundant_suite(synthetic: Any, generator: np.random.Generator) -> Any:
    """Needs of the target that one, three or six tasks cover, and six tasks with wrong answers."""
    needs = np.eye(12)[:3]
    covered = [0] * 6 + [1] * 3 + [2] + [0, 1, 2] * 2
    tasks = {
        f"task{index}": synthetic.signal(generator, 40, needs[[need]], flip=index >= 10)
        for index, need in enumerate(covered)
    }
    target, validation = (synthetic.signal(generator, rows, needs) for rows in (6, 300))
    return synthetic.Problem(tasks, target, validation)


@pytest.mark.parametrize("suite", [_noise_suite, _redundant_suite])
@pytest.mark.parametrize("scaling", ["per_row", "absolute"])
@pytest.mark.parametrize("seed", range(3))
def test_on_constructed_suites_it_reaches_at_least_the_best_of_300_random_subsets(
    synthetic: Any, suite: Any, scaling: str, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    ledger = suite(synthetic, generator).ledger(ridge_scaling=scaling)
    sampled = np.vstack([_random(16, size, 100, generator) for size in (4, 8, 12)])
    losses = ledger.mean_losses(sampled, "random")
    chosen = forward_stepwise(ledger, Constraints.none(16), best_of_m(sampled, losses))[-1].mask
    assert ledger.mean_losses(chosen[None], "chosen") < losses.min()


def test_where_tasks_are_redundant_additive_scores_choose_worse_of_the_same_size(synthetic: Any) -> None:
    generator = np.random.default_rng(0)
    ledger = _redundant_suite(synthetic, generator).ledger(ridge_scaling="absolute")
    sampled = _random(16, 8, 300, generator)
    chosen = _search(ledger, max_tasks=3)[-1].mask
    ensemble = random_ensemble(sampled, ledger.mean_losses(sampled, "random"), Constraints.none(16), top=3)
    assert chosen.sum() == ensemble.sum() == 3
    losses = ledger.mean_losses(np.stack([chosen, ensemble]), "both")
    assert losses[0] < losses[1]


def test_tasks_that_help_only_together_are_found_from_a_restart() -> None:
    losses = {(): 5.0, (0, 1): 4.0, (0, 1, 3): 3.0, (2,): 4.5}
    ledger = _known(4, lambda mask: losses.get(tuple(np.flatnonzero(mask)), 6.0))
    free = Constraints.none(4)
    assert [step.added for step in forward_stepwise(ledger, free)] == [None, 2]
    path = forward_stepwise(ledger, free, restart=_tasks(0, 1, of=4))
    assert [(step.action, step.added) for step in path] == [("start", None), ("add", 3)]
    assert forward_stepwise(ledger, free, restart=_tasks(0, of=4))[-1].added == 2


@pytest.mark.parametrize("seed", range(5))
def test_every_step_keeps_to_the_constraints(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.integers(1, 9, 12).astype(float)
    limits = {"required": _tasks(0, 5, of=12), "excluded": _tasks(1, 2, of=12)}
    path = _search(
        _known(12, _redundant(generator, 12)),
        **limits,
        rows=rows,
        max_tasks=6,
        max_rows=rows[[0, 5]].sum() + 12,
    )
    assert list(np.flatnonzero(path[0].mask)) == [0, 5]
    assert len(path) > 1
    for step in path:
        assert step.mask[[0, 5]].all()
        assert not step.mask[[1, 2]].any()
        assert step.mask.sum() <= 6
        assert step.mask @ rows <= rows[[0, 5]].sum() + 12


def test_under_a_limit_it_stops_at_the_best_subset_of_that_size() -> None:
    effects = np.array([0.3, -0.5, 0.1, -0.1, -0.7])
    path = _search(_known(5, lambda mask: 2 + effects @ mask), max_tasks=2)
    np.testing.assert_array_equal(path[-1].mask, _tasks(1, 4, of=5))


def test_swaps_bring_in_the_most_promising_tasks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def loss(mask: Any) -> float:
        asked.append(np.flatnonzero(mask).tolist())
        return 1 - 0.5 * mask[0] + 0.01 * mask[1:].sum() + 0.001 * np.arange(6) @ mask

    monkeypatch.setattr(module, "MAX_SWAPPED_IN", 2)
    _search(_known(6, loss))
    assert [subset for subset in asked if len(subset) == 1][-2:] == [[1], [2]]


class KnownDetails(KnownLosses):
    """A ledger with given row losses of every subset, by its size."""

    def losses(self, masks: Any, source: str) -> Losses:
        return Losses(np.stack([self.loss(mask) for mask in masks]), np.zeros((len(masks), 0)))

    def mean_losses(self, masks: Any, source: str) -> Any:
        return self.losses(masks, source).estimates().loss


def test_the_smallest_subset_within_one_standard_error_of_the_difference_is_taken() -> None:
    shared, wiggle = np.linspace(-3, 3, 100), np.tile([-1.0, 1.0], 50)
    of_size = {0: 9.0, 1: 5.0, 2: 4.05, 3: 4.0}

    def rows(mask: Any) -> Any:
        size = int(mask.sum())
        return of_size[size] + shared + size * wiggle

    ledger: Any = KnownDetails(3, rows)
    path = _search(ledger)
    assert [step.mask.sum() for step in path] == [0, 1, 2, 3]
    # The difference of sizes 2 and 3 is .05 with a standard error of .1; shared errors of .18 do not count.
    assert smallest_within_one_standard_error(path, ledger).sum() == 2
    of_size[2] = 4.15
    assert smallest_within_one_standard_error(path, ledger).sum() == 3


def test_ensemble_scores_are_the_means_of_the_definition() -> None:
    generator = np.random.default_rng(0)
    masks, losses = _random(6, 3, 50, generator), generator.random(50)
    scores = random_ensemble_scores(masks, losses)
    for task in range(6):
        assert scores[task] == pytest.approx(losses.mean() - losses[masks[:, task]].mean())


def test_random_ensemble_keeps_the_tasks_over_the_threshold_or_the_top() -> None:
    masks, losses = np.eye(4, dtype=bool), np.array([1.0, 0.6, 0.9, 0.1])
    free = Constraints.none(4)
    assert list(random_ensemble(masks, losses, free)) == [False, True, False, True]
    assert list(random_ensemble(masks, losses, free, threshold=0.1)) == [False, False, False, True]
    assert list(random_ensemble(masks, losses, free, threshold=-0.3)) == [False, True, True, True]
    assert list(random_ensemble(masks, losses, free, top=3)) == [False, True, True, True]
    limited = replace(free, required=_tasks(0, of=4), excluded=_tasks(3, of=4))
    assert list(random_ensemble(masks, losses, limited)) == [True, True, False, False]
    assert list(random_ensemble(masks, losses, limited, top=3)) == [True, True, True, False]


def test_a_task_in_no_sampled_subset_has_no_score() -> None:
    scores = random_ensemble_scores(np.array([[True, False]]), np.array([1.0]))
    np.testing.assert_array_equal(scores, 0)
    assert not random_ensemble(np.array([[True, False]]), np.array([1.0]), Constraints.none(2)).any()


def test_best_of_m_is_the_lowest_and_the_first_of_equals() -> None:
    masks = np.array([[True, False], [False, True], [True, True]])
    np.testing.assert_array_equal(best_of_m(masks, np.array([2.0, 1.0, 1.0])), masks[1])
