"""Every subset is computed once and written down with who asked first."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gradsift.components.subset_estimation.selection import ledger as ledger_module


def test_a_subset_is_computed_once(synthetic: Any) -> None:
    ledger = synthetic.problem().ledger()
    masks = synthetic.subsets(4)
    first = ledger.estimate(masks[[3, 5, 3]], "one")
    assert len(ledger) == 2
    assert first[0] == first[2] != first[1]
    ledger.estimator = None
    np.testing.assert_array_equal(ledger.estimate(masks[[5]], "two"), first[1:2])


def test_many_subsets_are_computed_in_parts(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = synthetic.problem(tasks=5).ledger().estimate(synthetic.subsets(5), "one")
    monkeypatch.setattr(ledger_module, "SUBSET_BATCH", 3)
    np.testing.assert_array_equal(
        synthetic.problem(tasks=5).ledger().estimate(synthetic.subsets(5), "one"), whole
    )


def test_a_subset_that_was_passed_by_gets_its_standard_error_when_it_is_asked_for(
    synthetic: Any, tmp_path: Path
) -> None:
    problem, masks = synthetic.problem(blocks=2), synthetic.subsets(4)
    ledger, full = problem.ledger(), problem.ledger()
    passed = ledger.mean_losses(masks[:3], "search")
    np.testing.assert_array_equal(passed, full.estimate(masks[:3], "search"))
    assert ledger.known(masks[1]).standard_error == full.known(masks[1]).standard_error
    ledger.estimate(masks[2:4], "later")
    ledger.write(tmp_path / "estimates.parquet", "gauss_newton")
    rows = pq.read_table(tmp_path / "estimates.parquet").to_pylist()
    assert [row["source"] for row in rows] == ["search", "search", "search", "later"]
    assert [row["standard_error"] is None for row in rows] == [True, False, False, False]
    assert [row["estimated_loss"] for row in rows[:3]] == list(passed)


def test_the_file_holds_each_subset_with_its_first_source(synthetic: Any, tmp_path: Path) -> None:
    ledger = synthetic.problem().ledger()
    masks = synthetic.subsets(4)
    ledger.estimate(masks[[0, 6]], "one")
    losses = ledger.estimate(masks[[6, 8]], "two")
    ledger.write(tmp_path / "estimates.parquet", "gauss_newton")
    rows = pq.read_table(tmp_path / "estimates.parquet").to_pylist()
    assert [(row["subset"], row["source"]) for row in rows] == [
        ([], "one"),
        (["task1", "task2"], "one"),
        (["task3"], "two"),
    ]
    assert [row["estimated_loss"] for row in rows[1:]] == list(losses)
    assert all(row["standard_error"] > 0 and row["estimator"] == "gauss_newton" for row in rows)
