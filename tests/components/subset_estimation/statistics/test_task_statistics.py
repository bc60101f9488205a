"""Sums a task: their unit, their projection blocks, and the subsets they are for."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.errors import InputError


def test_a_block_is_the_statistics_of_its_columns(synthetic: Any) -> None:
    problem = synthetic.problem(dimension=6, blocks=3)
    columns = [
        synthetic.Rows(rows.margin, rows.feature[:, 2:4]) for rows in [*problem.train, problem.validation]
    ]
    alone = synthetic.Problem(dict(zip(problem.tasks, columns, strict=False)), *columns[-2:])
    found, expected = problem.statistics().block(1), alone.statistics()
    for name in ("gradient", "curvature", "validation_margin", "validation_gradient"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)
    np.testing.assert_allclose(problem.train_rows().block(1).feature, alone.train_rows().feature)
    assert found.blocks == 1


def test_a_block_copies_nothing(synthetic: Any) -> None:
    problem = synthetic.problem(dimension=6, blocks=3)
    statistics, rows = problem.statistics(), problem.train_rows()
    assert np.shares_memory(statistics.block(2).curvature, statistics.curvature)
    assert np.shares_memory(rows.block(2).feature, rows.feature)


def test_a_mask_holds_the_named_tasks(synthetic: Any) -> None:
    statistics = synthetic.problem(tasks=3).statistics()
    np.testing.assert_array_equal(statistics.mask(["task2", "task0"]), [True, False, True])
    assert not statistics.mask([]).any()


def test_an_unknown_task_is_refused(synthetic: Any) -> None:
    with pytest.raises(InputError, match=r"'target' is no auxiliary task .* expected some of task0, task1\."):
        synthetic.problem(tasks=2).statistics().mask(["task1", "target"])


@pytest.mark.parametrize("shape", [(1, 3), (2,), (1, 2, 1)])
def test_masks_of_other_tasks_are_refused(synthetic: Any, shape: tuple[int, ...]) -> None:
    for estimator in ("gauss_newton", "logistic"):
        with pytest.raises(InputError, match=r"expected \[m, 2\]"):
            synthetic.problem(tasks=2).estimator(estimator=estimator).losses(np.ones(shape, bool))
