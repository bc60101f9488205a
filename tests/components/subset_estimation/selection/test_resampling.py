"""Shares count choices over resamples, and resampled losses spread as far as their standard error says."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.subset_estimation.selection import resampling as module
from gradsift.components.subset_estimation.selection.constraints import Constraints
from gradsift.components.subset_estimation.selection.resampling import selection_shares
from gradsift.components.subset_estimation.selection.selection import forward_stepwise, search_nearby


def _search(losses: Any) -> Any:
    return forward_stepwise(losses, Constraints.none(4))[-1].mask


def _shares(ledger: Any, choose: Any, seed: int = 0) -> Any:
    return selection_shares(ledger, choose, np.random.default_rng(seed))


@pytest.mark.parametrize("blocks", [1, 4])
def test_resampled_losses_have_the_spread_of_the_standard_error(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 2000)
    ledger = synthetic.problem(rows=60, blocks=blocks).ledger()
    masks = synthetic.subsets(4)
    drawn: list[Any] = []

    def choose(losses: Any) -> Any:
        drawn.append(losses.mean_losses(masks, "test"))
        return masks[0]

    _shares(ledger, choose)
    estimates = ledger.losses(masks, "test").estimates()
    np.testing.assert_allclose(
        np.mean(drawn, axis=0), estimates.loss, atol=0.2 * estimates.standard_error.max()
    )
    np.testing.assert_allclose(np.std(drawn, axis=0) / estimates.standard_error, 1, atol=0.08)
    difference = ledger.losses(masks[[3, 5]], "test").combine(np.array([[1.0, -1.0]])).estimates()
    spread = np.std([losses[3] - losses[5] for losses in drawn])
    assert spread == pytest.approx(difference.standard_error[0], rel=0.1)


def test_blocks_alone_spread_as_far_as_their_standard_error(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 4000)
    problem = synthetic.problem(blocks=2)
    for values in (problem.validation.margin, problem.validation.feature):
        values[:] = values[0]
    ledger = problem.ledger()
    drawn: list[Any] = []

    def choose(losses: Any) -> Any:
        drawn.append(losses.mean_losses(np.ones((1, 4), bool), "test"))
        return np.ones(4, bool)

    _shares(ledger, choose)
    error = ledger.losses(np.ones((1, 4), bool), "test").estimates().standard_error
    assert np.std(drawn) == pytest.approx(error[0], rel=0.05)


def test_a_share_is_how_often_the_task_is_chosen(synthetic: Any) -> None:
    ledger = synthetic.problem().ledger()
    taken = iter([np.arange(4) < count for count in [4, 2, 2, 1, 0] * 10])
    np.testing.assert_allclose(_shares(ledger, lambda losses: next(taken)), [0.8, 0.6, 0.2, 0.2])


def test_clear_tasks_are_always_chosen_and_twins_share(synthetic: Any) -> None:
    generator = np.random.default_rng(0)
    needs = np.eye(8)[:2]
    helpful, wrong = (synthetic.signal(generator, 60, needs[:1], flip=flip) for flip in (False, True))
    half = [synthetic.signal(generator, 60, needs[1:]) for _ in range(2)]
    problem = synthetic.Problem(
        {"helpful": helpful, "wrong": wrong, "twin": half[0], "other twin": half[1]},
        synthetic.signal(generator, 6, needs),
        synthetic.signal(generator, 150, needs),
        blocks=2,
    )
    ledger = problem.ledger(ridge_scaling="absolute")
    start = _search(ledger)
    shares = _shares(ledger, lambda losses: search_nearby(losses, Constraints.none(4), start))
    whole = _shares(ledger, _search)
    assert shares[0] == 1
    assert shares[1] == 0
    assert 0 < shares[2:].min() < 1
    np.testing.assert_allclose(shares, whole, atol=0.1)
    np.testing.assert_array_equal(whole, _shares(ledger, _search))


def test_it_is_left_out_where_it_costs_too_much(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = synthetic.problem().ledger()
    monkeypatch.setattr(module, "MAX_SUBSETS", 3)
    assert _shares(ledger, _search) is None
    monkeypatch.setattr(module, "MAX_TASKS", 3)
    assert _shares(ledger, lambda losses: pytest.fail("asked for a choice")) is None
