"""Tasks with like gradients are near each other on the map and in one cluster."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.subset_estimation.explanations.task_map import draw_task_map


def _problem(synthetic: Any, *features: list[float]) -> Any:
    """A problem of tasks with these mean gradients, the first the target's."""
    generator = np.random.default_rng(0)
    rows = [
        synthetic.Rows(np.zeros(20), feature + 0.05 * generator.normal(size=(20, 4))) for feature in features
    ]
    return synthetic.Problem({f"task{k}": task for k, task in enumerate(rows[1:])}, rows[0], rows[0])


def test_groups_of_like_tasks_are_found(synthetic: Any) -> None:
    a, b, c = [1.0, 0.2, 0, 0], [0, 1.0, 0.2, 0], [0, 0, 0, 1.0]
    found = draw_task_map(_problem(synthetic, b, a, b, c, a, a, c).statistics())
    assert found.tasks == ["target", *(f"task{index}" for index in range(6))]
    assert found.cluster == [0, 1, 0, 2, 1, 1, 2]
    places = np.column_stack([found.x, found.y])
    alike = np.linalg.norm(places[1] - places[4])
    assert alike < 0.2 * np.linalg.norm(places[1] - places[0])


def test_tasks_against_each_other_are_apart(synthetic: Any) -> None:
    a = np.array([1.0, 0, 0, 0])
    found = draw_task_map(_problem(synthetic, a, -a, a, -a).statistics())
    assert found.cluster == [0, 1, 0, 1]


def test_like_tasks_are_one_cluster(synthetic: Any) -> None:
    found = draw_task_map(_problem(synthetic, *[[1.0, 0.5, 0, 0]] * 5).statistics())
    assert set(found.cluster) == {0}


@pytest.mark.parametrize("tasks", [1, 2, 3, 30])
def test_any_number_of_tasks_has_a_place(synthetic: Any, tasks: int) -> None:
    statistics = synthetic.problem(tasks=tasks).statistics()
    found = draw_task_map(statistics)
    assert len(found.tasks) == tasks + 1
    assert np.isfinite([found.x, found.y]).all()
    assert found == draw_task_map(statistics)


def test_a_task_without_gradient_stands_alone(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=2)
    problem.tasks["task0"].feature[:] = 0
    found = draw_task_map(problem.statistics())
    assert np.isfinite([found.x, found.y]).all()
    assert found.cluster.count(found.cluster[1]) == 1
