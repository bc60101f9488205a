"""A task as it is read, and the checks that a record passes to become one of its rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple, get_args

from gradsift.components.shared.data.prepared_data import Message, Role, Split, TaskKind
from gradsift.components.shared.documents.texts import (
    is_valid_unicode,
    is_visible,
    single_line,
    visible_form,
)
from gradsift.components.shared.errors import InputError, shown, shown_names

YEAR = re.compile(r"[0-9]{4}")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
"""The form of ISO 8601 whose texts are ordered as their days are."""
OPTIONAL_FIELDS = ("earlier", "all_turns", "group", "time")


class Row(NamedTuple):
    """One labelled example.

    `label` is an index into the labels of its task; `group` names the people or the part of the data it is of;
    `time` is an ISO date or a year.
    """

    id: str
    text: str
    text_pair: str | None
    label: int
    group: str | None = None
    time: str | None = None

    @property
    def asked(self) -> tuple[str, str | None]:
        """The texts that are to be labelled."""
        return self.text, self.text_pair


class GenerationRow(NamedTuple):
    """One example with an answer to write.

    Attributes:
        id: its id.
        prompt: what is asked; of a conversation, the last message of the user.
        completion: the right answer.
        rationale: what leads to it.
        references: all right answers, its own completion first.
        earlier: the messages of a conversation before the prompt.
        all_turns: whether the assistant's answers among them are learned too.
        group, time: as in `Row`.
    """

    id: str
    prompt: str
    completion: str
    rationale: str | None
    references: list[str]
    earlier: Sequence[Message] = ()
    all_turns: bool = False
    group: str | None = None
    time: str | None = None

    @property
    def asked(self) -> tuple[str, str | None]:
        """The prompt, and the texts before it."""
        return self.prompt, "\n".join(message["content"] for message in self.earlier) or None


AnyRow = Row | GenerationRow


def answered_by(row: AnyRow, other: AnyRow) -> AnyRow:
    """Return a row with the answer of another row of its task."""
    kept: dict[str, Any] = {"id": row.id, "group": row.group, "time": row.time}
    if isinstance(other, Row):
        return other._replace(text=row.asked[0], text_pair=row.asked[1], **kept)
    assert isinstance(row, GenerationRow)
    return other._replace(prompt=row.prompt, earlier=row.earlier, all_turns=row.all_turns, **kept)


def digested(row: AnyRow) -> list[Any]:
    """Return what a digest takes in of a row; optional fields count only where they are given."""
    fields = row._asdict()
    given = {name: value for name in OPTIONAL_FIELDS if (value := fields.pop(name, None))}
    return [*fields.values(), *([given] if given else [])]


@dataclass(frozen=True)
class Task:
    """One task of a suite with the rows of its splits.

    Attributes:
        name: the task's name in its suite.
        labels: the label names; a row's `label` is an index into them. None where rows are of generation.
        splits: the rows of each split that was read, in the order of their source.
        licence: what the suite's manifest says of the task's licence.
        corruption: how the task was corrupted on purpose, None where it was not.
        period: the period that its rows are of, where the task was cut into periods.
    """

    name: str
    labels: list[str]
    splits: dict[Split, list[AnyRow]]
    licence: str = ""
    corruption: str | None = None
    period: str | None = None

    @property
    def kind(self) -> TaskKind:
        """What the rows are."""
        return "classification" if self.labels else "generation"


class RowReader:
    """Turns the records of one task, split after split, into rows."""

    def __init__(self, label_ids: Iterable[str], group_field: str = "group") -> None:
        """Read rows whose `label` is one of `label_ids` (the n-th of them becomes the label n), or generation rows.

        Args:
            label_ids: the task's label ids; none for a generation task.
            group_field: the field of a record that names its group.
        """
        self._label_index = {label_id: index for index, label_id in enumerate(label_ids)}
        self._group_field = group_field
        self._place_of_id: dict[str, str] = {}

    def rows(self, records: Iterable[tuple[str, Mapping[str, Any]]]) -> list[AnyRow]:
        """Return the rows of (place, record) pairs; a place names file and line in errors.

        Raises:
            InputError: a text or id is missing or empty, a label is unknown, an id was read before, a group is no
                text, or a time is neither an ISO date nor a year.
        """
        return [self._row(place, record) for place, record in records]

    def _row(self, place: str, record: Mapping[str, Any]) -> AnyRow:
        row_id = self._new_id(place, record)
        place = f"{place} (id {row_id!r})"
        group = self._group(place, record)
        if not self._label_index:
            return _generation_row(place, row_id, record, group)
        return Row(
            id=row_id,
            text=_text(place, "text", record.get("text")),
            text_pair=_optional_text(place, "text_pair", record),
            label=self._label(place, record.get("label")),
            group=group,
            time=_time(place, record),
        )

    def _new_id(self, place: str, record: Mapping[str, Any]) -> str:
        value = record.get("id")
        row_id = str(value) if type(value) is int else _text(place, "id", value)
        first = self._place_of_id.setdefault(row_id, place)
        if first != place:
            raise InputError(
                f"{place}: the id {row_id!r} is also that of {first}, expected another id per row."
            )
        return row_id

    def _group(self, place: str, record: Mapping[str, Any]) -> str | None:
        value = record.get(self._group_field)
        group = label_id(value)
        if value is not None and (group is None or not is_valid_unicode(group) or not is_visible(group)):
            raise InputError(f"{place}: {self._group_field!r} is {shown(value)}, expected a text.")
        return group

    def _label(self, place: str, value: Any) -> int:
        index = None if (label := label_id(value)) is None else self._label_index.get(label)
        if index is None:
            raise InputError(
                f"{place}: 'label' is {_found(value)}, expected one of the task's labels: "
                f"{shown_names(self._label_index)}."
            )
        return index


def check_labels(place: str, labels: Mapping[str, str]) -> None:
    """Check that a task's labels (words for each label id) can be told apart.

    Raises:
        InputError: there are fewer than two, or two look the same: with `_` as a blank, however they are composed
            of characters, and without what is invisible.
    """
    if len(labels) < 2:
        raise InputError(
            f"{place}, field 'labels' holds {len(labels)} labels, expected two or more, or the kind 'generation'."
        )
    for text in (*labels, *labels.values()):
        try:
            single_line(text)
        except ValueError as error:
            raise InputError(f"{place}, field 'labels': {error}.") from None
    forms: dict[str, str] = {}
    for text in labels.values():
        form = visible_form(text.replace("_", " "))
        if form in forms:
            raise InputError(
                f"{place}, field 'labels' has the same words for two labels, {forms[form]!r} and {text!r}: "
                "expected other words."
            )
        forms[form] = text


def label_id(value: Any) -> str | None:
    """Return the text of a label's id, given as a text, a whole number, true or false; else None."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | str) else None


def _generation_row(place: str, row_id: str, record: Mapping[str, Any], group: str | None) -> GenerationRow:
    if "messages" in record:
        return _conversation_row(place, row_id, record, group)
    if "label" in record and "completion" not in record:
        raise InputError(f"{place}: there is a 'label', but the task has no field 'labels': expected them.")
    completion = _text(place, "completion", record.get("completion"))
    return GenerationRow(
        id=row_id,
        prompt=_text(place, "prompt", record.get("prompt")),
        completion=completion,
        rationale=_optional_text(place, "rationale", record),
        references=_references(place, completion, record),
        group=group,
        time=_time(place, record),
    )


def _conversation_row(place: str, row_id: str, record: Mapping[str, Any], group: str | None) -> GenerationRow:
    for field in ("completion", "rationale"):
        if record.get(field) is not None:
            raise InputError(f"{place}: there are 'messages' and {field!r}, expected one of the two.")
    given = record["messages"]
    if not isinstance(given, list) or not given:
        raise InputError(f"{place}: 'messages' is {_found(given)}, expected a list of messages.")
    messages = [_message(place, f"messages[{number}]", message) for number, message in enumerate(given)]
    if [message["role"] for message in messages[-2:]] != ["user", "assistant"]:
        ends = " and ".join(repr(message["role"]) for message in messages[-2:])
        raise InputError(
            f"{place}: 'messages' ends with the role {ends}, expected a message of the user and then the "
            "assistant's answer at the end."
        )
    *earlier, question, answer = messages
    return GenerationRow(
        id=row_id,
        prompt=question["content"],
        completion=answer["content"],
        rationale=None,
        references=_references(place, answer["content"], record),
        earlier=tuple(earlier),
        all_turns=any(message["role"] == "assistant" for message in earlier),
        group=group,
        time=_time(place, record),
    )


def _message(place: str, field: str, message: Any) -> Message:
    if not isinstance(message, Mapping):
        raise InputError(
            f"{place}: {field!r} is {_found(message)}, expected an object with 'role' and 'content'."
        )
    role: Any = message.get("role")
    if role not in get_args(Role):
        raise InputError(
            f"{place}: '{field}.role' is {_found(role)}, expected one of {', '.join(get_args(Role))}."
        )
    return {"role": role, "content": _text(place, f"{field}.content", message.get("content"))}


def _references(place: str, completion: str, record: Mapping[str, Any]) -> list[str]:
    others = record.get("references") or []
    if not isinstance(others, list):
        raise InputError(f"{place}: 'references' is {shown(others)}, expected a list of texts.")
    references = [completion, *(_text(place, "references", other) for other in others)]
    return list(dict.fromkeys(references))


def _time(place: str, record: Mapping[str, Any]) -> str | None:
    """Return a row's `date`, or its `time` where it has no date."""
    field = "time" if record.get("date") is None else "date"
    value = record.get(field)
    if value is None:
        return None
    time = value.isoformat() if isinstance(value, date) else label_id(value)
    if time is None or not _is_iso_time(time):
        raise InputError(f"{place}: {field!r} is {shown(value)}, expected an ISO date or a year.")
    return time


def _is_iso_time(text: str) -> bool:
    if YEAR.fullmatch(text):
        return True
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return bool(DATE.match(text))


def _optional_text(place: str, field: str, record: Mapping[str, Any]) -> str | None:
    value = record.get(field)
    return None if value is None else _text(place, field, value)


def _text(place: str, field: str, value: Any) -> str:
    if isinstance(value, str) and not is_valid_unicode(value):
        raise InputError(f"{place}: {field!r} holds half of a surrogate pair, expected valid Unicode.")
    if not isinstance(value, str) or not is_visible(value):
        raise InputError(f"{place}: {field!r} is {_found(value)}, expected a text that is not empty.")
    return value


def _found(value: Any) -> str:
    return "missing" if value is None else shown(value)
