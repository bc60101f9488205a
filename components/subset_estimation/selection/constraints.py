"""Which subsets may be chosen: tasks that must be in or out, a number of tasks, a budget of train rows."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, TaskStatistics

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Constraints:
    """What a subset of the n auxiliary tasks must keep to. The target's rows always come with it, uncounted.

    Attributes:
        required: [n], tasks that must be in.
        excluded: [n], tasks that must be out.
        rows: [n], train rows of every task.
        max_tasks: largest number of tasks.
        max_rows: largest number of train rows of all tasks together.
    """

    required: BoolArray
    excluded: BoolArray
    rows: FloatArray
    max_tasks: float = np.inf
    max_rows: float = np.inf

    @classmethod
    def none(cls, tasks: int) -> "Constraints":
        """Return constraints that every subset of so many tasks keeps to."""
        return cls(np.zeros(tasks, bool), np.zeros(tasks, bool), np.zeros(tasks))

    def fit(self, masks: BoolArray) -> BoolArray:
        """Return which of the subsets [m, n] are within the budget of tasks and rows, as [m]."""
        fitting: BoolArray = (masks.sum(axis=1) <= self.max_tasks) & (masks @ self.rows <= self.max_rows)
        return fitting

    def only(self, tasks: BoolArray) -> "Constraints":
        """Return the same constraints, but that tasks outside of `tasks` [n] that are not required are excluded."""
        return replace(self, excluded=self.excluded | ~tasks)

    def first(self, orders: IntArray, size: int) -> BoolArray:
        """Return for every order [m, n] of the tasks its first `size` that may be in together, as [m, n].

        Required tasks come first, come what may; one that is excluded or no longer fits is passed over.
        """
        masks = np.tile(self.required, (len(orders), 1))
        counts, rows = masks.sum(axis=1), masks @ self.rows
        free, most = ~(self.required | self.excluded), min(size, self.max_tasks)
        for tasks in orders.T:
            taken = free[tasks] & (counts < most) & (rows + self.rows[tasks] <= self.max_rows)
            masks[taken, tasks[taken]] = True
            counts += taken
            rows += taken * self.rows[tasks]
        return masks

    def highest(self, scores: FloatArray, size: int) -> BoolArray:
        """Return the `size` tasks [n] with the highest scores that may be in together, the first of equals."""
        return self.first(np.argsort(-scores, kind="stable")[None], size)[0]

    def random_subsets(self, size: int, count: int, generator: np.random.Generator) -> BoolArray:
        """Return `count` subsets [count, n], each the first `size` tasks of a random order.

        Without a budget of rows they are uniform, with replacement, among the subsets of that size that may be
        chosen. Under one, a subset may end up smaller.
        """
        orders = generator.random((count, len(self.required))).argsort(axis=1, kind="stable")
        return self.first(orders, size)


def constraints_of(config: SubsetEstimationConfig, statistics: TaskStatistics) -> Constraints:
    """Return the constraints for these settings and this store.

    Raises:
        InputError: a name is no auxiliary task, or the required tasks are over the budget.
    """
    required = _members(statistics.tasks, config.required_tasks, "required_tasks")
    constraints = Constraints(
        required=required,
        excluded=_members(statistics.tasks, config.excluded_tasks, "excluded_tasks"),
        rows=statistics.rows[:-1],
        max_tasks=config.max_tasks or np.inf,
        max_rows=config.max_rows or np.inf,
    )
    needed = int(required @ constraints.rows)
    if needed > constraints.max_rows:
        raise InputError(
            f"required_tasks hold {needed} train rows, but max_rows is {config.max_rows}: "
            "expected a budget that they fit in."
        )
    return constraints


def _members(tasks: tuple[str, ...], names: list[str], setting: str) -> BoolArray:
    for name in names:
        if name not in tasks:
            raise InputError(f"{setting} holds {name!r}: expected auxiliary tasks, {', '.join(tasks)}.")
    return np.isin(tasks, names)
