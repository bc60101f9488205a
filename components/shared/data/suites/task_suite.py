"""The tasks that a run uses: chosen from a suite, read, and corrupted where the suite says so."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gradsift.components.shared.artifacts.step_output import digest_of
from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.corruption import corrupted_copy
from gradsift.components.shared.data.suites.suite_folder import SuiteFolder
from gradsift.components.shared.data.suites.suite_hub import HubSuite
from gradsift.components.shared.data.suites.suite_manifest import DerivedTask, Manifest
from gradsift.components.shared.data.suites.task import Task, digested
from gradsift.components.shared.errors import InputError, shown_names
from gradsift.components.shared.parameters.data import DataPreparationConfig

DEMO_FOLDERS = {
    "demo": Path(__file__).parent / "demo_suite",
    "demo-lm": Path(__file__).parent / "demo_lm_suite",
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
    tasks = [_read_task(source, name) for name in _chosen_tasks(source, config)]
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


def auxiliary_tasks(config: DataPreparationConfig) -> list[str]:
    """Return the names of the auxiliary tasks that will be used, by a suite's manifest alone.

    Raises:
        InputError: the suite's manifest is not what was expected, or lacks one of the tasks.
        StorageError: it cannot be read.
    """
    return [name for name in _chosen_tasks(_open_source(config.suite), config) if name != config.target]


def find_tasks(config: DataPreparationConfig) -> str:
    """Say which tasks of a suite will be used, by its manifest alone.

    Raises:
        InputError: the suite's manifest is not what was expected, or lacks one of the tasks.
        StorageError: it cannot be read.
    """
    source = _open_source(config.suite)
    sources = len(_chosen_tasks(source, config)) - 1
    return (
        f"{source.manifest.suite} has the target {config.target} and {sources} auxiliary tasks to choose from"
    )


def _open_source(address: str) -> SuiteSource:
    if address in DEMO_FOLDERS:
        return SuiteFolder(str(DEMO_FOLDERS[address]))
    if address.endswith((".yaml", ".yml")):
        return HubSuite(address)
    return SuiteFolder(address)


def _chosen_tasks(source: SuiteSource, config: DataPreparationConfig) -> list[str]:
    names = [entry.name for entry in source.manifest.tasks]
    auxiliary_tasks = config.auxiliary_tasks or [name for name in names if name != config.target]
    for role, name in [("target", config.target), *(("auxiliary task", name) for name in auxiliary_tasks)]:
        if name not in names:
            raise InputError(
                f"{source.where} has no task {name!r}, which was given as {role}: expected one of "
                f"{shown_names(names)}."
            )
    if not auxiliary_tasks:
        raise InputError(f"{source.where} has no task but the target {config.target!r}: expected one more.")
    chosen = {config.target, *auxiliary_tasks}
    return [name for name in names if name in chosen]


def _read_task(source: SuiteSource, name: str) -> Task:
    entry = source.manifest.entry(name)
    if not isinstance(entry, DerivedTask):
        return source.read(entry, SPLITS)
    origin = source.manifest.own_tasks()[entry.derived_from]
    task = source.read(origin, ["train"])
    if "train" not in task.splits:
        raise InputError(
            f"{source.where}: task {name!r} is derived from {origin.name!r}, which has no train split, "
            "expected train."
        )
    return corrupted_copy(task, name, entry.corruption, entry.seed)
