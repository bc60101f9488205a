"""Cuts one big data set into tasks, one for each group of its rows that is large enough."""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.task import AnyRow, Row, Task
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.data import SEPARATOR

OTHER = "other"
MAX_CUT_TASKS = 2_000
MAX_SLUG = 40
UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def data_name(task: str) -> str:
    """Return the name in the manifest of the data that a task's rows come from."""
    return task.partition(SEPARATOR)[0]


def cut_by_group(task: Task, column: str, min_rows: int, where: str) -> list[Task]:
    """Return a task for each group of rows, in the order of their names, and at last one for all other rows.

    A group becomes the task `<task>#<group>` if it has `min_rows` train rows and, where rows have labels, two
    labels or more. All other rows are those of `<task>#other`; they are left out where none is a train row, or all
    train rows have one label. Each task has the splits of which it has rows.

    Args:
        task: the data, whose rows have their group.
        column: where the groups come from, for errors.
        min_rows: smallest number of train rows of a group that becomes a task.
        where: address of the suite's manifest, for errors.

    Raises:
        InputError: there is no train split, no group that is large enough, or more than `MAX_CUT_TASKS` of them.
    """
    place = f"{where}: task {task.name!r}"
    if "train" not in task.splits:
        raise InputError(f"{place} has no train split, expected train.")
    by_group: defaultdict[str, list[AnyRow]] = defaultdict(list)
    for row in task.splits["train"]:
        if row.group is not None:
            by_group[row.group].append(row)
    place = f"{place}, field 'group_by'"
    if not by_group:
        raise InputError(f"{place}: no train row has a {column!r}, expected the field that names its group.")
    large = [group for group, rows in by_group.items() if len(rows) >= min_rows]
    groups = [group for group in large if can_be_learnt(by_group[group])]
    if not groups:
        of_labels = " and two labels" if large else ""
        raise InputError(
            f"{place}: none of the {len(by_group):,} values of {column!r} has {min_rows:,} train rows "
            f"('min_rows'){of_labels}, expected one or more that do."
        )
    if len(groups) > MAX_CUT_TASKS:
        raise InputError(
            f"{place}: {len(groups):,} values of {column!r} have {min_rows:,} train rows or more, expected at most "
            f"{MAX_CUT_TASKS:,}: a larger 'min_rows', or another field."
        )
    names = _names(groups)
    parts: dict[str, dict[Split, list[AnyRow]]] = {name: {} for name in [*sorted(names.values()), OTHER]}
    for split, rows in task.splits.items():
        for row in rows:
            parts[names.get(row.group or "", OTHER)].setdefault(split, []).append(row)
    return [
        replace(task, name=f"{task.name}{SEPARATOR}{name}", splits=splits)
        for name, splits in parts.items()
        if can_be_learnt(splits.get("train", []))
    ]


def can_be_learnt(rows: list[AnyRow]) -> bool:
    """Return whether there are rows, and not all of one label."""
    return bool(rows) and len({row.label for row in rows if isinstance(row, Row)}) != 1


def _names(groups: Iterable[str]) -> dict[str, str]:
    """Return for each group a name of letters, digits, `_` and `-`, told apart where files ignore case, too.

    A name that others share, that is too long or has nothing left of its group ends with a digest of the group.
    """
    slugs = {group: _slug(group) for group in groups}
    uses = Counter(slug.lower() for slug in slugs.values())
    names = {}
    for group, slug in slugs.items():
        if slug and len(slug) <= MAX_SLUG and uses[slug.lower()] == 1 and slug.lower() != OTHER:
            names[group] = slug
        else:
            digest = hashlib.sha256(group.encode()).hexdigest()[:8]
            names[group] = f"{slug[:MAX_SLUG]}-{digest}" if slug else digest
    return names


def _slug(group: str) -> str:
    plain = unicodedata.normalize("NFKD", group).encode("ascii", "ignore").decode()
    return UNSAFE.sub("-", plain).strip("-")
