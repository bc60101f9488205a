"""The prepared data that `data_preparation` writes and the later steps read.

A folder holds one Arrow stream per task and split, `<task>/<split>.arrow`, and `tasks.json`, which lists the
tasks and says how many tokens of a row are read. Columns of a classification task: `id` (string), `text` (string),
`text_pair` (string or null), `label` (int64, index into the task's labels). Columns of a generation task: `id`,
`prompt`, `completion` (strings), `rationale` (string or null: what leads to the completion), `references` (list of
strings: all completions that are right, the row's own first). A task of which a row has a value there also has
the columns `group` (string or null: the people or the part of the data that a row is of) or `time` (string or null:
an ISO date or a year). A split with conversations also has the columns `earlier` (list of messages with `role` and
`content`: what was said before the prompt) and `all_turns` (boolean: whether the assistant's answers among them are
learned too).

A task may be a part of another, whose files have its rows among others: `<part>/train.npy` holds the places of its
rows [n] in the other's Arrow stream, in order. A part has a train split alone.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.local import atomic_file

if TYPE_CHECKING:
    from datasets import Dataset

Split = Literal["train", "val", "test"]
Role = Literal["system", "user", "assistant"]
TaskKind = Literal["classification", "generation"]
OptionalColumn = Literal["group", "time"]
Places = npt.NDArray[np.int64]
INDEX = "tasks.json"
STATISTICS = "statistics.json"
"""What was prepared, task by task; for readers."""
DEFAULT_MAX_LENGTH = 32
"""Tokens that are read of a row where no model was named that decides it."""
SCHEMAS: dict[TaskKind, pa.Schema] = {
    "classification": pa.schema(
        [("id", pa.string()), ("text", pa.string()), ("text_pair", pa.string()), ("label", pa.int64())]
    ),
    "generation": pa.schema(
        [
            ("id", pa.string()),
            ("prompt", pa.string()),
            ("completion", pa.string()),
            ("rationale", pa.string()),
            ("references", pa.list_(pa.string())),
        ]
    ),
}
EARLIER, ALL_TURNS = "earlier", "all_turns"
CONVERSATION_FIELDS = (
    pa.field(EARLIER, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    pa.field(ALL_TURNS, pa.bool_()),
)


class Message(TypedDict):
    """One message of a conversation."""

    role: Role
    content: str


class PreparedTask(BaseModel):
    """One task after preparation.

    Attributes:
        name: the task's name in its suite.
        kind: what its rows are.
        labels: the label names; a row's `label` is an index into them. None for generation.
        rows: number of rows of each split that the task has.
        licence: what the suite's manifest says of the task's licence.
        corruption: `flip_labels` or `shuffle_labels` where the task is a copy corrupted on purpose, else None.
        columns: the optional columns that its rows have.
        part_of: the task whose files have its rows, by whose name models know it; None where these are its own.
        period: the period that its rows are of, where its task was cut into periods: texts that sort by time.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: TaskKind = "classification"
    labels: list[str]
    rows: dict[Split, int]
    licence: str = ""
    corruption: str | None = None
    columns: list[OptionalColumn] = []
    part_of: str | None = None
    period: str | None = None

    @property
    def whole(self) -> str:
        """Name of the task whose files have its rows: its own, or that of the task it is a part of."""
        return self.part_of or self.name

    def files(self, *splits: Split) -> list[str]:
        """Return the names of the files that have its rows of these splits."""
        rows = [f"{self.whole}/{split}.arrow" for split in splits]
        return rows if self.part_of is None else [*rows, *(f"{self.name}/{split}.npy" for split in splits)]


@dataclass(eq=False)
class TaskIndex:
    """The tasks of prepared data, without their rows.

    Attributes:
        suite: the suite's name.
        target: name of the target task.
        max_length: largest number of tokens that are read of a row.
        tasks: all tasks, in the suite's order.
    """

    suite: str
    target: str
    max_length: int
    tasks: list[PreparedTask]

    @property
    def auxiliary_tasks(self) -> list[str]:
        """Names of the auxiliary tasks, in the suite's order."""
        return [task.name for task in self.tasks if task.name != self.target]

    @property
    def labels(self) -> dict[str, list[str]]:
        """The label names of each task, by the name that models know; parts of a task share its entry."""
        return {task.whole: task.labels for task in self.tasks}

    def task(self, name: str) -> PreparedTask:
        """Return the task called `name`; raises InputError where there is none."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise InputError(f"There is no task {name!r} in the prepared data of suite {self.suite!r}.")


class PreparedData(TaskIndex):
    """Reader of a prepared data folder."""

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        tasks = [PreparedTask(**task) for task in index["tasks"]]
        super().__init__(index["suite"], index["target"], index["max_length"], tasks)
        self.folder = folder

    def split(self, name: str, split: Split) -> "Dataset":
        """Return the rows of one task and split, memory-mapped; raises InputError where there are none."""
        rows = self.whole_split(name, split)
        places = self.places(name, split)
        return rows if places is None else rows.select(places)

    def whole_split(self, name: str, split: Split) -> "Dataset":
        """Return the rows of one split of the task that a task is a part of; `places` says which are its own.

        Raises:
            InputError: the task has none.
        """
        from datasets import Dataset

        task = self.task(name)
        if task.rows.get(split, 0) == 0:
            raise InputError(f"Task {name!r} of suite {self.suite!r} has no rows in its {split} split.")
        return Dataset.from_file(str(self.folder / task.whole / f"{split}.arrow"))

    def places(self, name: str, split: Split) -> Places | None:
        """Return the places [n] of a part's rows among those of `whole_split`; None where all are the task's."""
        if self.task(name).part_of is None:
            return None
        places: Places = np.load(self.folder / name / f"{split}.npy", allow_pickle=False)
        return places

    def column(self, name: str, split: Split, column: OptionalColumn) -> list[str | None]:
        """Return an optional column of one task and split; raises InputError where the task's rows have none."""
        if column not in self.task(name).columns:
            raise InputError(f"No row of task {name!r} of suite {self.suite!r} has a {column!r}.")
        values: list[str | None] = self.split(name, split)[column][:]
        return values


def has_conversations(rows: Any) -> bool:
    """Return whether prepared rows (a `datasets.Dataset`, or columns by name) have the columns of conversations."""
    return EARLIER in getattr(rows, "column_names", rows)


def write_split(
    folder: Path,
    task: str,
    split: Split,
    rows: list[dict[str, Any]],
    kind: TaskKind = "classification",
    columns: Iterable[OptionalColumn] = (),
) -> None:
    """Write the rows of one task and split as an Arrow stream: the same rows give the same bytes."""
    conversation = CONVERSATION_FIELDS if any(row.get(EARLIER) for row in rows) else ()
    optional = ((column, pa.string()) for column in columns)
    schema = pa.schema([*SCHEMAS[kind], *conversation, *optional])
    path = folder / task / f"{split}.arrow"
    with atomic_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_table(pa.Table.from_pylist(rows, schema))


def write_places(folder: Path, part: str, split: Split, places: Places) -> None:
    """Write the places [n] of a part's rows in the Arrow stream of the task it is a part of."""
    with atomic_file(folder / part / f"{split}.npy") as path, path.open("wb") as file:
        np.save(file, places, allow_pickle=False)


def write_index(
    folder: Path,
    suite: str,
    target: str,
    tasks: list[PreparedTask],
    max_length: int = DEFAULT_MAX_LENGTH,
) -> None:
    """Write `tasks.json`, after every split is in place.

    Args:
        folder: the prepared data.
        suite: the suite's name.
        target: the target task's name.
        tasks: all tasks.
        max_length: largest number of tokens that are read of a row.
    """
    content = {
        "suite": suite,
        "target": target,
        "max_length": max_length,
        "tasks": [_index_entry(task) for task in tasks],
    }
    with atomic_file(folder / INDEX) as path:
        path.write_text(json.dumps(content, indent=1, sort_keys=True))


def _index_entry(task: PreparedTask) -> dict[str, Any]:
    unused = {name for name in ("columns", "part_of", "period") if not getattr(task, name)}
    return task.model_dump(exclude=unused)
