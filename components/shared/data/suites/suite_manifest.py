"""What a task suite says of itself: a suite folder's manifest, or a YAML file of Hugging Face datasets."""

import re
from collections import Counter
from typing import Annotated, Any, Generic, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from gradsift.components.shared.data.prepared_data import Split, TaskKind
from gradsift.components.shared.data.suites.corruption import Corruption
from gradsift.components.shared.data.suites.task import label_id
from gradsift.components.shared.documents.texts import is_valid_unicode, single_line
from gradsift.components.shared.errors import InputError, shown, shown_names
from gradsift.components.shared.parameters.settings import MAX_COUNT, MAX_SEED
from gradsift.components.shared.storage.addresses import checked_key

SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
OWN_NAMES = re.compile(
    r"data|.+\.(train|val|test|partial|arrow|json|jsonl|md|safetensors|yaml)", re.IGNORECASE
)
"""Names of files and folders that steps write beside those of tasks."""
OTHER_SPLIT_NAMES = re.compile(r"train\w*|val\w*|test\w*|dev\w*|eval\w*", re.IGNORECASE)
"""Names that others give to our splits."""


def _safe_name(name: str) -> str:
    if not SAFE_NAME.fullmatch(name):
        raise ValueError(
            f"the task name {shown(name)} is not allowed: expected up to 100 letters, digits, '_', '-' or '.', "
            "not starting with '.' or '-'"
        )
    if OWN_NAMES.fullmatch(name):
        raise ValueError(f"the task name {name!r} is also that of a file of gradsift: expected another name")
    return name


def _split_name(name: str) -> str:
    if name not in get_args(Split) and OTHER_SPLIT_NAMES.fullmatch(name):
        raise ValueError(f"the split {name!r} is not known: expected train, val or test")
    return name


def _split_file(name: str) -> str:
    try:
        checked_key(name)
    except InputError as error:
        raise ValueError(str(error).rstrip(".")) from error
    if not name.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"the file {name!r} is not supported: expected a name ending in .jsonl or .jsonl.gz")
    return single_line(name)


def _dataset_name(name: str) -> str:
    if "/" not in name:
        raise ValueError(
            f"the dataset {name!r} is not allowed: expected owner/name on the hub, or the path of a "
            "local folder, with a '/'"
        )
    return single_line(name)


def _valid_unicode(text: str) -> str:
    if not is_valid_unicode(text):
        raise ValueError("it holds half of a surrogate pair: expected valid Unicode")
    return text


def _label_id(value: Any) -> Any:
    return value if (label := label_id(value)) is None else label


def _label_words(value: Any) -> Any:
    return str(value) if type(value) is int else value.strip() if isinstance(value, str) else value


TaskName = Annotated[str, AfterValidator(_safe_name)]
SplitName = Annotated[str, AfterValidator(_split_name)]
Line = Annotated[str, AfterValidator(single_line)]
LabelId = Annotated[str, BeforeValidator(_label_id)]
Words = Annotated[str, BeforeValidator(_label_words), AfterValidator(single_line)]
Text = Annotated[str, AfterValidator(_valid_unicode)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class SplitFile(_Model):
    """The file of one split.

    Attributes:
        file: path inside the suite's folder, `.jsonl` or `.jsonl.gz`.
        rows: number of rows, checked where it is given.
        sha256: sha256 of the file as it is stored, checked where it is given.
    """

    file: Annotated[str, AfterValidator(_split_file)]
    rows: int | None = Field(default=None, ge=1, le=MAX_COUNT, strict=True)
    sha256: str | None = None


class _OwnData(_Model):
    """A task that has data of its own, or data that are cut into tasks.

    Attributes:
        group_by: the field of a record, or the column of a dataset, whose values cut the rows into tasks.
        min_rows: smallest number of train rows of a value that becomes a task.
    """

    group_by: Line | None = None
    min_rows: int = Field(default=100, ge=1, le=MAX_COUNT, strict=True)

    @model_validator(mode="after")
    def _is_cut_where_it_says_how(self) -> Self:
        if "min_rows" in self.model_fields_set and self.group_by is None:
            raise ValueError("there is a 'min_rows' but no 'group_by': expected both or neither")
        return self


class FolderTask(_OwnData):
    """A task whose splits are files of the suite's folder.

    Attributes:
        name: the task's name; it becomes part of paths and addresses.
        kind: what its rows are; where it is not said, tasks with labels are of classification, others of
            generation.
        labels: words for each label id, as the model reads them; none for generation.
        splits: the file of each split.
        licence: the terms under which the data may be used.
    """

    name: TaskName
    kind: TaskKind | None = None
    labels: dict[LabelId, Words] = {}
    splits: dict[SplitName, SplitFile] = {}
    licence: Text = ""

    @property
    def labelled(self) -> bool:
        """Whether the rows are of classification."""
        return self.kind == "classification" if self.kind else bool(self.labels)


class HubTask(_OwnData):
    """A task whose splits are those of a Hugging Face dataset.

    Attributes:
        name: the task's name; it becomes part of paths and addresses.
        dataset: `owner/name` on the hub, or the path of a local folder. A bare name is refused: `datasets`
            takes some for file loaders, one of which unpickles what lies in the working directory.
        config: name of the dataset's configuration, where it has several.
        text: column of the text, for classification.
        text_pair: column of a second text, where there is one.
        label: column of the label, for classification.
        labels: words for each label id; without it, the names that the dataset's ClassLabel feature gives.
        prompt: column of the prompt, for generation.
        completion: column of the completion, for generation.
        rationale: column of what leads to the completion, where there is one.
        references: column of the lists of all right completions, where there is one.
        messages: column of the conversations, lists of messages with `role` and `content`, for generation in place
            of the prompt and the completion.
        group: column of the people or the part of the data that a row is of, where there is one.
        time: column of a row's date or year, where there is one.
        splits: the dataset's split for each of ours.
        revision: the dataset's git commit, tag or branch.
        licence: the terms under which the data may be used.
    """

    name: TaskName
    dataset: Annotated[str, AfterValidator(_dataset_name)]
    config: Line | None = None
    text: Line | None = None
    text_pair: Line | None = None
    label: Line | None = None
    labels: dict[LabelId, Words] = {}
    prompt: Line | None = None
    completion: Line | None = None
    rationale: Line | None = None
    references: Line | None = None
    messages: Line | None = None
    group: Line | None = None
    time: Line | None = None
    splits: dict[Split, Line]
    revision: Line | None = None
    licence: Text = ""

    @model_validator(mode="after")
    def _has_one_kind(self) -> "HubTask":
        columns = self.columns.keys() & {"text", "label", "prompt", "completion", "messages"}
        if columns not in ({"text", "label"}, {"prompt", "completion"}, {"messages"}):
            raise ValueError(
                "expected the columns 'text' and 'label', 'prompt' and 'completion', or 'messages'"
            )
        if self.group and self.group_by:
            raise ValueError("expected 'group' or 'group_by', not both: a row is of one group")
        return self

    @property
    def labelled(self) -> bool:
        """Whether the rows are of classification."""
        return self.label is not None

    @property
    def columns(self) -> dict[str, str]:
        """The dataset's column for each of our fields."""
        fields = (
            *("text", "text_pair", "label"),
            *("prompt", "completion", "rationale", "references", "messages"),
            *("group", "group_by", "time"),
        )
        return {field: column for field in fields if (column := getattr(self, field)) is not None}


class DerivedTask(_Model):
    """A copy of another task's train split that is corrupted on purpose.

    Attributes:
        name: the copy's name.
        derived_from: the task that it copies, one with data of its own.
        corruption: how it is corrupted.
        seed: seed of `shuffle_labels`.
    """

    name: TaskName
    derived_from: str
    corruption: Corruption
    seed: int = Field(default=0, ge=0, le=MAX_SEED, strict=True)


OwnTask = TypeVar("OwnTask", FolderTask, HubTask)


def _entry_form(entry: Any) -> str:
    return "derived" if isinstance(entry, dict) and "derived_from" in entry else "own"


class Manifest(_Model, Generic[OwnTask]):
    """A suite's name and tasks, in order.

    Attributes:
        suite: the suite's name; `benchmark` is read as the same.
        tasks: what is said of each task.
    """

    suite: Line = Field(validation_alias=AliasChoices("suite", "benchmark"))
    tasks: list[
        Annotated[
            Annotated[OwnTask, Tag("own")] | Annotated[DerivedTask, Tag("derived")],
            Discriminator(_entry_form),
        ]
    ]

    def own_tasks(self) -> dict[str, OwnTask]:
        """Return the tasks that have data of their own, by their names."""
        return {task.name: task for task in self.tasks if not isinstance(task, DerivedTask)}


AnyManifest = TypeVar("AnyManifest", Manifest[FolderTask], Manifest[HubTask])


def parse_manifest(form: type[AnyManifest], content: Any, where: str) -> AnyManifest:
    """Return `content`, which was read from the file `where`, as a manifest of this form.

    Raises:
        InputError: a field is missing or is not what was expected, or two tasks have one name.
    """
    if not isinstance(content, dict):
        raise InputError(
            f"{where} holds {type(content).__name__}, expected an object with 'suite' and 'tasks'."
        )
    try:
        manifest = form.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {_first_fault(error, content)}.") from error
    names = [task.name for task in manifest.tasks]
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{where}: two tasks are called {name!r}, expected another name for each.")
    own = manifest.own_tasks()
    for task in manifest.tasks:
        if isinstance(task, DerivedTask) and task.derived_from not in own:
            raise InputError(
                f"{where}: task {task.name!r}, field 'derived_from': there is no task {task.derived_from!r} "
                f"with data of its own, expected one of {shown_names(own)}."
            )
    return manifest


def _first_fault(error: ValidationError, content: dict[str, Any]) -> str:
    fault = error.errors()[0]
    path = [part for part in fault["loc"] if part not in {"own", "derived"}]
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if path[0] == "tasks" and len(path) > 1:
        entry = content["tasks"][path[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        task = f"task {shown(name)}" if isinstance(name, str) else f"tasks[{path[1]}]"
        path = path[2:]
        return f"{task}, field {_dotted(path)}: {message}" if path else f"{task}: {message}"
    return f"field {_dotted(path)}: {message}"


def _dotted(path: list[Any]) -> str:
    return repr(".".join(str(part) for part in path))
