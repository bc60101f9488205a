"""A task's score is the mean fall of the estimated loss when it joins, with an error that covers its noise."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.records import search_plan as module
from gradsift.components.subset_estimation.selection.constraints import Constraints
from gradsift.components.subset_estimation.selection.task_scores import task_scores


def test_a_score_is_the_mean_over_subsets_of_what_the_task_takes_off_the_loss(synthetic: Any) -> None:
    ledger = synthetic.problem(blocks=2).ledger()
    subsets = Constraints.none(4).random_subsets(2, 5, np.random.default_rng(0))
    found = task_scores(ledger, subsets)
    for task in range(4):
        without, with_it = subsets.copy(), subsets.copy()
        without[:, task], with_it[:, task] = False, True
        expected = ledger.estimate(without, "test") - ledger.estimate(with_it, "test")
        assert found.loss[task] == pytest.approx(expected.mean(), abs=1e-8)


def test_a_useless_task_scores_nothing_and_harm_is_negative(synthetic: Any) -> None:
    generator = np.random.default_rng(0)
    direction = np.eye(6)[:1]
    tasks = {
        "helpful": synthetic.signal(generator, 60, direction),
        "harmful": synthetic.signal(generator, 60, direction, flip=True),
        "useless": synthetic.Rows(np.zeros(60), np.zeros((60, 6))),
    }
    problem = synthetic.Problem(
        tasks, synthetic.signal(generator, 20, direction), synthetic.signal(generator, 200, direction)
    )
    ledger = problem.ledger(ridge_scaling="absolute")
    scores = task_scores(ledger, synthetic.subsets(3))
    helpful, harmful, useless = scores.loss
    assert helpful > 2 * scores.standard_error[0]
    assert harmful < -2 * scores.standard_error[1]
    assert useless == pytest.approx(0, abs=1e-8)


def test_the_error_covers_the_choice_of_subsets(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCORE_SUBSETS", 8)
    problem = synthetic.problem(tasks=6, seed=3)
    problem.validation.margin[:] = problem.validation.margin[0]
    problem.validation.feature[:] = problem.validation.feature[0]
    ledger = problem.ledger()
    draws = [
        task_scores(ledger, Constraints.none(6).random_subsets(3, 8, np.random.default_rng(seed)))
        for seed in range(40)
    ]
    spread = np.std([scores.loss for scores in draws], axis=0)
    claimed = np.sqrt(np.mean([scores.standard_error**2 for scores in draws], axis=0))
    np.testing.assert_allclose(claimed / spread, 1, atol=0.4)


def test_only_the_first_subsets_are_used(synthetic: Any) -> None:
    ledger = synthetic.problem().ledger()
    subsets = Constraints.none(4).random_subsets(2, module.SCORE_SUBSETS + 5, np.random.default_rng(0))
    np.testing.assert_array_equal(
        task_scores(ledger, subsets).loss, task_scores(ledger, subsets[: module.SCORE_SUBSETS]).loss
    )


def test_of_many_tasks_fewer_subsets_are_used(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = synthetic.problem().ledger()
    subsets = Constraints.none(4).random_subsets(2, 20, np.random.default_rng(0))
    five, four = (task_scores(ledger, subsets[:count]).loss for count in (5, module.MIN_SCORE_SUBSETS))
    monkeypatch.setattr(module, "MAX_SCORE_ESTIMATES", 20)
    np.testing.assert_array_equal(task_scores(ledger, subsets).loss, five)
    monkeypatch.setattr(module, "MAX_SCORE_ESTIMATES", 1)
    np.testing.assert_array_equal(task_scores(ledger, subsets).loss, four)
