"""Which rows of a task belong to a group and which to the others, and whether the two can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.data.prepared_data import PreparedData, Split
from gradsift.components.shared.errors import InputError, shown_names
from gradsift.components.shared.parameters.fairness import PART_SEPARATOR, FairnessConfig

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TwoGroups:
    """The rows of a task with two labels, divided into a group and the others.

    Attributes:
        positive: index of the favourable label.
        members: 1 for a row of the group, 0 for one of the others, NaN for one without any group [n_rows].
    """

    positive: int
    members: FloatArray

    @property
    def deviations(self) -> FloatArray:
        """Membership minus its mean over the rows that have a group; NaN for rows without any [n_rows]."""
        return self.members - np.nanmean(self.members)


def membership(groups: Sequence[str | None], group: str) -> FloatArray:
    """Return 1 for rows of a group, 0 for rows of others, NaN for rows without any, [n_rows]."""
    return np.array(
        [np.nan if each is None else group in each.split(PART_SEPARATOR) for each in groups], float
    )


def comparison_problem(
    config: FairnessConfig, task: str, labels: Sequence[str], groups: Sequence[str | None]
) -> str | None:
    """Return a sentence that says why the groups of a task's rows cannot be compared, None where they can.

    Args:
        config: the group and the favourable label.
        task: the task's name.
        labels: its label names; none where rows are answered in free text.
        groups: each row's group.
    """
    start = f"Parameter fairness_group is {config.group!r}: expected"
    if not labels:
        return f"{start} '', as {task!r} is answered in free text, which has no decision boundary."
    if len(labels) != 2:  # a favourable label and another
        return (
            f"{start} '', as {task!r} has {len(labels)} labels; a covariance needs a favourable one of two."
        )
    if config.positive not in labels:
        return (
            f"Parameter fairness_positive is {config.positive!r}: expected one of {shown_names(labels)}, the "
            f"labels of {task!r}."
        )
    members = membership(groups, config.group)
    if np.isnan(members).all():
        return f"{start} '', as no train row of {task!r} has a 'group'."
    if not (members == 1).any():
        return f"{start} one of {shown_names(_names(groups))}, the groups of {task!r}."
    if not (members == 0).any():
        return f"{start} a group that does not hold all train rows of {task!r}."
    return None


def two_groups(config: FairnessConfig, data: PreparedData, task: str) -> TwoGroups | None:
    """Return the groups of a prepared task's train rows, None where they cannot be compared."""
    labels, groups = data.task(task).labels, _groups(data, task, "train")
    if comparison_problem(config, task, labels, groups) is not None:
        return None
    return TwoGroups(labels.index(config.positive), membership(groups, config.group))


def target_groups(config: FairnessConfig, data: PreparedData, split: Split) -> TwoGroups:
    """Return the groups of the target's rows in one split.

    Raises:
        InputError: its train rows cannot be compared, or no row of the split has a group.
    """
    target, labels = data.target, data.task(data.target).labels
    if problem := comparison_problem(config, target, labels, _groups(data, target, "train")):
        raise InputError(problem)
    members = membership(_groups(data, target, split), config.group)
    if np.isnan(members).all():
        raise InputError(
            f"Parameter fairness_group is {config.group!r}: expected '', as no {split} row of {target!r} has a "
            "'group'."
        )
    return TwoGroups(labels.index(config.positive), members)


def check_target_groups(config: FairnessConfig, data: PreparedData) -> None:
    """Check that the groups of the target's rows can be compared, in every split.

    Raises:
        InputError: they cannot.
    """
    for split in data.task(data.target).rows:
        target_groups(config, data, split)


def _groups(data: PreparedData, task: str, split: Split) -> list[str | None]:
    if "group" in data.task(task).columns:
        return data.column(task, split, "group")
    return [None] * data.task(task).rows[split]


def _names(groups: Sequence[str | None]) -> list[str]:
    return sorted({part for each in groups if each is not None for part in each.split(PART_SEPARATOR)})
