"""Cuts tasks whose rows have a time into one task per period; the newest keeps the task's name."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date, datetime

from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.cutting import can_be_learnt
from gradsift.components.shared.data.suites.task import YEAR, AnyRow, Task
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.data import Periods

SEPARATOR = "."
"""Stands between the names of a task and of a past period."""


def period_of(time: str, unit: Periods) -> str | None:
    """Return the year, quarter or month of a time, such as 2005, 2005-Q1 or 2005-03; as texts they sort by time.

    Args:
        time: an ISO date or a year.
        unit: `year`, `quarter` or `month`.

    Returns:
        None where the time is a year and a part of it is asked for.
    """
    if YEAR.fullmatch(time):
        return time if unit == "year" else None
    day: date = datetime.fromisoformat(time)
    suffix = {"year": "", "quarter": f"-Q{(day.month + 2) // 3}", "month": f"-{day.month:02}"}[unit]
    return f"{day.year:04}{suffix}"


def past_period(task: str, period: str) -> str:
    """Return the name of the task of a past period."""
    return f"{task}{SEPARATOR}{period}"


def cut_into_periods(
    tasks: Sequence[Task], target: str, unit: Periods, splits: Collection[Split], where: str
) -> list[Task]:
    """Return the tasks, those whose rows have a time cut into periods, the newest one first.

    The newest period keeps the task's name, by which a registered model knows its target. An older one is
    `<task>.<period>` and has train rows only. Older periods whose train rows have one label are left out.

    Args:
        tasks: the tasks as read.
        target: the target task.
        unit: `year`, `quarter` or `month`.
        splits: what the target needs.
        where: address of the suite's manifest, for errors.

    Raises:
        InputError: the target has no times or a single period, its newest period lacks one of the splits, a row
            has no time or too coarse a one, or a name is taken.
    """
    cut = [part for task in tasks for part in _periods_of(task, unit, where)]
    newest = next(task for task in cut if task.name == target)
    setting = f"Parameter prepare_periods is {unit!r}: expected"
    if newest.period is None:
        raise InputError(f"{setting} 'none', as no row of the target {target!r} has a 'time' or 'date'.")
    missing = [split for split in splits if split not in newest.splits]
    if missing:
        whole = _newest_with(next(task for task in tasks if task.name == target), splits, unit)
        hint = f"the newest period that has them is {whole}" if whole else "no period has them all"
        raise InputError(
            f"{setting} 'none' or longer periods, as {newest.period}, the newest of the target {target!r}, has no "
            f"{' and no '.join(missing)} rows; {hint}."
        )
    if not any(task.name == past_period(target, task.period) for task in cut if task.period):
        raise InputError(
            f"{setting} 'none' or shorter periods, as the target {target!r} has no older period than "
            f"{newest.period} to learn from."
        )
    names = [task.name for task in cut]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{where}: task {twice[0]!r} has the name of a past period, expected another name.")
    return cut


def _periods_of(task: Task, unit: Periods, where: str) -> list[Task]:
    """Return a task's periods, the newest first, or the task itself where no row has a time."""
    if all(row.time is None for rows in task.splits.values() for row in rows):
        return [task]
    by_period: defaultdict[str, dict[Split, list[AnyRow]]] = defaultdict(dict)
    for split, rows in task.splits.items():
        for row in rows:
            by_period[_period(row, task, unit, where)].setdefault(split, []).append(row)
    newest, *older = sorted(by_period, reverse=True)
    past = [
        replace(
            task,
            name=past_period(task.name, period),
            splits={"train": by_period[period]["train"]},
            period=period,
        )
        for period in older
        if can_be_learnt(by_period[period].get("train", []))
    ]
    return [replace(task, splits=by_period[newest], period=newest), *past]


def _period(row: AnyRow, task: Task, unit: Periods, where: str) -> str:
    period = None if row.time is None else period_of(row.time, unit)
    if period is None:
        found = "no 'time' or 'date'" if row.time is None else f"the time {row.time!r}"
        raise InputError(
            f"{where}: row {row.id!r} of task {task.name!r} has {found}, expected {'a year or ' * (unit == 'year')}"
            f"an ISO date in each of its rows where prepare_periods is {unit!r}."
        )
    return period


def _newest_with(task: Task, splits: Collection[Split], unit: Periods) -> str | None:
    """Return the newest period of which every split has rows."""
    of_splits = [{period_of(row.time or "", unit) for row in task.splits[split]} for split in splits]
    return max(set.intersection(*of_splits), default=None, key=str)
