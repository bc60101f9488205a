"""Near-ties are the subsets whose difference to the chosen one is within its own standard error."""

from typing import Any

import numpy as np

from gradsift.components.subset_estimation.selection import ties as module
from gradsift.components.subset_estimation.selection.ties import near_ties


def test_near_ties_are_those_within_one_standard_error_of_the_difference(synthetic: Any) -> None:
    ledger = synthetic.problem(seed=1, blocks=2).ledger()
    masks = synthetic.subsets(4)
    losses = ledger.losses(masks, "test")
    chosen = int(losses.rows.mean(axis=1).argsort()[4])
    expected = []
    for other, mask in enumerate(masks):
        rows = losses.rows[other] - losses.rows[chosen]
        blocks = losses.blocks[other] - losses.blocks[chosen]
        error = np.sqrt(rows.var(ddof=1) / len(rows) + blocks.var(ddof=1) / len(blocks))
        if other != chosen and rows.mean() <= error:
            expected.append((rows.mean(), str(other), mask))
    expected.sort(key=lambda tie: tie[0])
    found = near_ties(ledger, masks[chosen], {str(index): mask for index, mask in enumerate(masks)})
    assert 4 <= len(expected) < 15
    assert list(found) == [name for _, name, _ in expected[: module.MAX_TIES]]
    assert all((found[name] == mask).all() for _, name, mask in expected[: module.MAX_TIES])


def test_a_subset_is_named_once_and_the_chosen_one_not_at_all(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=3)
    problem.tasks["task2"] = problem.tasks["task1"]
    ledger = problem.ledger()
    first, same = np.array([True, True, False]), np.array([True, False, True])
    found = near_ties(ledger, first, {"itself": first, "twin": same, "twin again": same})
    assert list(found) == ["twin"]
    assert near_ties(ledger, first, {"itself": first}) == {}
