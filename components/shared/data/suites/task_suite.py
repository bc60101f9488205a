"""The tasks that a run uses: chosen from a suite, read, and corrupted where the suite says so."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from gradsift.components.shared.artifacts.step_output import digest_of
from gradsift.components.shared.data.prepared_data import PreparedTask, Split, TaskIndex, TaskKind
from gradsift.components.shared.data.suites.corruption import corrupted_copy
from gradsift.components.shared.data.suites.cutting import OTHER, cut_by_group, data_name
from gradsift.components.shared.data.suites.periods import SEPARATOR as PERIOD
from gradsift.components.shared.data.suites.periods import cut_into_periods
from gradsift.components.shared.data.suites.suite_folder import SuiteFolder
from gradsift.components.shared.data.suites.suite_hub import HubSuite
from gradsift.components.shared.data.suites.suite_manifest import DerivedTask, FolderTask, Manifest
from gradsift.components.shared.data.suites.task import GenerationRow, Task, digested
from gradsift.components.shared.errors import InputError, shown_names
from gradsift.components.shared.parameters.data import SEPARATOR, DataPreparationConfig

DEMO_FOLDERS = {
    "demo": Path(__file__).parent / "demo_suite",
    "demo-lm": Path(__file__).parent / "demo_lm_suite",
    "demo-groups": Path(__file__).parent / "groups_suite",
    "demo-periods": Path(__file__).parent / "periods_suite",
}
"""The suites that are shipped, by their names."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class TaskSuite:
    """The target and the auxiliary tasks of a run, with their rows.

    Attributes:
        name: the suite's name.
        where: address of the suite's manifest, for errors.
        tasks: the tasks in the suite's order.
    """

    name: str
    where: str
    tasks: list[Task]

    def content_digest(self) -> str:
        """Return a digest of all that was read, wherever and in whatever file format it lay."""
        return digest_of(
            {
                "suite": self.name,
                "tasks": [
                    {
                        "name": task.name,
                        "labels": task.labels,
                        "licence": task.licence,
                        "corruption": task.corruption,
                        "splits": {
                            split: digest_of([digested(row) for row in rows])
                            for split, rows in task.splits.items()
                        },
                    }
                    for task in self.tasks
                ],
            }
        )


@dataclass(frozen=True)
class FoundTasks:
    """The tasks of a run by the suite's manifest alone.

    Attributes:
        suite: the suite's name.
        target: the target task.
        auxiliary_tasks: the auxiliary tasks whose names are known.
        cut_data: data that are cut into further auxiliary tasks by a field of their rows.
        into_periods: whether tasks whose rows have a time are cut into periods.
    """

    suite: str
    target: str
    auxiliary_tasks: list[str]
    cut_data: list[str]
    into_periods: bool = False

    @property
    def may_have_more(self) -> bool:
        """Whether there may be further auxiliary tasks, which only the rows tell."""
        return bool(self.cut_data) or self.into_periods

    def may_have(self, name: str) -> bool:
        """Return whether `name` is, or may turn out to be, an auxiliary task."""
        task, separator, _ = name.rpartition(PERIOD)
        past = self.into_periods and separator and task in (self.target, *self.auxiliary_tasks)
        return name in self.auxiliary_tasks or data_name(name) in self.cut_data or bool(past)

    @property
    def sentence(self) -> str:
        """What was found, for readers."""
        offered = [
            *([f"{len(self.auxiliary_tasks)} auxiliary tasks"] if self.auxiliary_tasks else []),
            *(f"the tasks cut from {name}" for name in self.cut_data),
            *(["the past periods of tasks with times"] if self.into_periods else []),
        ]
        return f"{self.suite} has the target {self.target} and {' and '.join(offered)} to choose from"


class SuiteSource(Protocol):
    """Where a suite lies: a folder or named datasets."""

    where: str
    manifest: Manifest[Any]

    def read(self, entry: Any, splits: Collection[Split]) -> Task:
        """Return a task of the manifest with those of the `splits` that it has."""


def read_suite(config: DataPreparationConfig) -> TaskSuite:
    """Read the target and the chosen auxiliary tasks of a suite.

    Raises:
        InputError: the suite, a task or a row is not what was expected; the message names it.
        StorageError: a file cannot be read.
    """
    source = _open_source(config.suite)
    chosen = _chosen_tasks(source, config)
    tasks = [task for entry in source.manifest.tasks for task in _read_tasks(source, entry, chosen)]
    if config.periods != "none":
        tasks = cut_into_periods(tasks, config.target, config.periods, SPLITS, source.where)
    if len(tasks) == 1:
        raise _target_alone(source, config)
    if config.answer_turns == "last":
        tasks = [_last_turn_only(task) for task in tasks]
    for task in tasks:
        required = SPLITS if task.name == config.target else ("train",)
        for split in required:
            if split not in task.splits:
                role = "target" if task.name == config.target else "auxiliary"
                raise InputError(
                    f"{source.where}: the {role} task {task.name!r} has no {split} split, "
                    f"expected {', '.join(required)}."
                )
    return TaskSuite(source.manifest.suite, source.where, tasks)


def listed_tasks(config: DataPreparationConfig, max_length: int) -> TaskIndex | None:
    """Return the tasks that will be used, as large as a suite's manifest says they are, before any row is left out.

    Args:
        config: which data.
        max_length: largest number of tokens that are read of a row.

    Returns:
        The tasks; None where the manifest does not say how many rows they have.

    Raises:
        InputError: the suite's manifest is not what was expected, or lacks one of the tasks.
        StorageError: it cannot be read.
    """
    source = _open_source(config.suite)
    names, cut = _chosen_tasks(source, config), _cut_data(source)
    further = config.periods != "none" or any(data_name(name) in cut for name in names)
    if not isinstance(source, SuiteFolder) or further:
        return None
    tasks = [_listed_task(source.manifest, name, config) for name in names]
    known = [task for task in tasks if task is not None]
    return TaskIndex(source.manifest.suite, config.target, max_length, known) if known == tasks else None


def read_target(config: DataPreparationConfig, split: Split) -> Task:
    """Return the target with one of its splits alone.

    Raises:
        InputError: the suite, the target or a row is not what was expected.
        StorageError: a file cannot be read.
    """
    source = _open_source(config.suite)
    return source.read(source.manifest.own_tasks()[config.target], [split])


def find_tasks(config: DataPreparationConfig) -> FoundTasks:
    """Return which tasks of a suite will be used, by its manifest alone.

    Raises:
        InputError: the suite's manifest is not what was expected, or lacks one of the tasks.
        StorageError: it cannot be read.
    """
    source = _open_source(config.suite)
    names = [name for name in _chosen_tasks(source, config) if name != config.target]
    cut = set(_cut_data(source))
    return FoundTasks(
        source.manifest.suite,
        config.target,
        [name for name in names if name not in cut],
        [name for name in names if name in cut],
        config.periods != "none",
    )


def _open_source(address: str) -> SuiteSource:
    if address in DEMO_FOLDERS:
        return SuiteFolder(str(DEMO_FOLDERS[address]))
    if address.endswith((".yaml", ".yml")):
        return HubSuite(address)
    return SuiteFolder(address)


def _cut_data(source: SuiteSource) -> list[str]:
    return [name for name, entry in source.manifest.own_tasks().items() if entry.group_by]


def _chosen_tasks(source: SuiteSource, config: DataPreparationConfig) -> list[str]:
    """Return the names of the target and the auxiliary tasks; that of data that are cut stands for all their tasks.

    Whether data have a task for a value is not known before they are read.
    """
    names, cut = [entry.name for entry in source.manifest.tasks], _cut_data(source)
    auxiliary_tasks = config.auxiliary_tasks or [name for name in names if name != config.target]
    for role, name in [("target", config.target), *(("auxiliary task", name) for name in auxiliary_tasks)]:
        if name not in names and data_name(name) not in cut:
            raise InputError(
                f"{source.where} has no task {name!r}, which was given as {role}: expected one of "
                f"{shown_names(names)}."
            )
    if config.target in cut:
        raise InputError(
            f"{source.where}: the target {config.target!r} is cut into tasks by its field 'group_by', expected "
            f"one of them as target, such as '{config.target}{SEPARATOR}{OTHER}'."
        )
    if not auxiliary_tasks and config.periods == "none":
        raise _target_alone(source, config)
    return [config.target, *auxiliary_tasks]


def _target_alone(source: SuiteSource, config: DataPreparationConfig) -> InputError:
    return InputError(f"{source.where} has no task but the target {config.target!r}: expected one more.")


def _read_tasks(source: SuiteSource, entry: Any, chosen: Collection[str]) -> list[Task]:
    """Return those of the chosen tasks that an entry of the manifest has."""
    wanted = [name for name in chosen if data_name(name) == entry.name]
    if not wanted:
        return []
    if isinstance(entry, DerivedTask):
        return [_derived_task(source, entry)]
    task = source.read(entry, SPLITS)
    if not entry.group_by:
        return [task]
    tasks = {task.name: task for task in cut_by_group(task, entry.group_by, entry.min_rows, source.where)}
    for name in wanted:
        if name != entry.name and name not in tasks:
            raise InputError(
                f"{source.where}: task {entry.name!r}, cut by {entry.group_by!r}, gives no task {name!r}: expected "
                f"one of {shown_names(tasks)}."
            )
    return [task for name, task in tasks.items() if entry.name in wanted or name in wanted]


def _derived_task(source: SuiteSource, entry: DerivedTask) -> Task:
    origin = source.manifest.own_tasks()[entry.derived_from]
    task = source.read(origin, ["train"])
    if "train" not in task.splits:
        raise InputError(
            f"{source.where}: task {entry.name!r} is derived from {origin.name!r}, which has no train split, "
            "expected train."
        )
    return corrupted_copy(task, entry.name, entry.corruption, entry.seed)


def _last_turn_only(task: Task) -> Task:
    """Return a task whose conversations have no answer to learn but the last."""
    splits = {
        split: [row._replace(all_turns=False) if isinstance(row, GenerationRow) else row for row in rows]
        for split, rows in task.splits.items()
    }
    return replace(task, splits=splits)


def _listed_task(
    manifest: Manifest[FolderTask], name: str, config: DataPreparationConfig
) -> PreparedTask | None:
    entry = next(entry for entry in manifest.tasks if entry.name == name)
    own = manifest.own_tasks()[entry.derived_from] if isinstance(entry, DerivedTask) else entry
    needed = SPLITS if name == config.target else ("train",)
    rows: dict[Split, int] = {}
    for split in needed:
        count = own.splits[split].rows if split in own.splits else None
        if count is None:
            return None
        most = config.max_rows_per_task if split == "train" else 0
        rows[split] = min(count, most or count)
    kind: TaskKind = "classification" if own.labelled else "generation"
    return PreparedTask(name=name, kind=kind, labels=list(own.labels.values()), rows=rows)
