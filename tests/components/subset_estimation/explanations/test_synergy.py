"""Synergies are what the definition says, and redundancy is positive."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.records import search_plan as module
from gradsift.components.subset_estimation.explanations.synergy import pair_synergy


def test_values_are_those_of_the_definition(synthetic: Any) -> None:
    ledger = synthetic.problem(tasks=3).ledger()
    found = pair_synergy(ledger, np.zeros(3))
    loss = dict(zip(range(8), ledger.estimate(synthetic.subsets(3), "test"), strict=True))
    assert found is not None
    assert found.tasks == ["task0", "task1", "task2"]
    for i in range(3):
        for j in range(3):
            expected = 0 if i == j else loss[2**i + 2**j] - loss[2**i] - loss[2**j] + loss[0]
            assert found.values[i][j] == pytest.approx(expected, abs=1e-12)


def test_a_twin_makes_up_for_the_other(synthetic: Any) -> None:
    generator = np.random.default_rng(0)
    direction = np.eye(6)[:1]
    twin = synthetic.signal(generator, 200, direction)
    target, validation = (synthetic.signal(generator, rows, direction) for rows in (10, 200))
    found = pair_synergy(synthetic.Problem({"a": twin, "b": twin}, target, validation).ledger(), np.zeros(2))
    assert found is not None
    assert found.values[0][1] > 0.01


def test_of_many_tasks_the_best_are_taken(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SYNERGY_TASKS", 4)
    monkeypatch.setattr(module, "SYNERGY_TASKS_OF_MANY", 2)
    found = pair_synergy(synthetic.problem(tasks=5).ledger(), np.array([0.1, 0.3, -0.2, 0.5, 0.0]))
    assert found is not None
    assert found.tasks == ["task1", "task3"]


def test_one_task_has_no_pairs(synthetic: Any) -> None:
    assert pair_synergy(synthetic.problem(tasks=1).ledger(), np.zeros(1)) is None
