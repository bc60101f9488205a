"""A record becomes a row, or is refused with its place."""

from typing import Any

import pytest

from gradsift.components.shared.data.suites.task import (
    GenerationRow,
    Row,
    RowReader,
    answered_by,
    check_labels,
    digested,
)
from gradsift.components.shared.errors import InputError, shown_names

RECORD = {"id": "a", "text": "good", "label": 1}


def test_a_record_becomes_a_row() -> None:
    rows = RowReader(["no", "yes"]).rows([("p", {"id": 7, "text": "a", "text_pair": "b", "label": "yes"})])
    assert rows == [Row("7", "a", "b", 1)]


def test_a_label_is_found_by_its_id_as_text_or_number() -> None:
    reader = RowReader(["10", "20"])
    rows = reader.rows([("p1", {**RECORD, "label": 20}), ("p2", {**RECORD, "id": "b", "label": "10"})])
    assert [row.label for row in rows] == [1, 0]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"text": None}, "(id 'a'): 'text' is missing, expected a text that is not empty."),
        ({"text": ""}, "(id 'a'): 'text' is '', expected a text that is not empty."),
        ({"text": " \n\u3000"}, "(id 'a'): 'text' is ' \\n\\u3000', expected a text that is not empty."),
        ({"text": ["x"]}, "(id 'a'): 'text' is ['x'], expected a text that is not empty."),
        ({"text": "\ud800"}, "(id 'a'): 'text' holds half of a surrogate pair, expected valid Unicode."),
        ({"text_pair": ""}, "(id 'a'): 'text_pair' is '', expected a text that is not empty."),
        ({"label": True}, "(id 'a'): 'label' is True, expected one of the task's labels: 0, 1."),
        ({"id": True}, ": 'id' is True, expected a text that is not empty."),
        (
            {"text": "\u200b\ufeff\u202e"},
            "(id 'a'): 'text' is '\\u200b\\ufeff\\u202e', expected a text that is not",
        ),
        ({"label": 2}, "(id 'a'): 'label' is 2, expected one of the task's labels: 0, 1."),
        ({"label": None}, "(id 'a'): 'label' is missing, expected one of the task's labels: 0, 1."),
        ({"label": 1.0}, "(id 'a'): 'label' is 1.0, expected one of the task's labels: 0, 1."),
        (
            {"label": "x" * 99},
            f"(id 'a'): 'label' is '{'x' * 56}..., expected one of the task's labels: 0, 1.",
        ),
        ({"id": None}, ": 'id' is missing, expected a text that is not empty."),
        ({"id": ""}, ": 'id' is '', expected a text that is not empty."),
    ],
)
def test_a_faulty_field_is_named_with_its_place(change: dict[str, Any], fault: str) -> None:
    record = {**RECORD, **change}
    with pytest.raises(InputError) as caught:
        RowReader(["0", "1"]).rows([("films.jsonl, line 3", record)])
    assert str(caught.value).startswith(("films.jsonl, line 3 " + fault).replace("3 :", "3:"))


def test_a_record_of_a_task_without_labels_becomes_a_generation_row() -> None:
    record = {"id": 1, "prompt": "1+1=", "completion": "2", "references": ["two", "2", "two"], "label": 0}
    assert RowReader([]).rows([("p", record)]) == [GenerationRow("1", "1+1=", "2", None, ["2", "two"])]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"completion": ""}, "'completion' is '', expected a text that is not empty."),
        ({"completion": None}, "'completion' is missing, expected a text that is not empty."),
        ({"prompt": " "}, "'prompt' is ' ', expected a text that is not empty."),
        ({"rationale": ""}, "'rationale' is '', expected a text that is not empty."),
        ({"references": "2"}, "'references' is '2', expected a list of texts."),
        ({"references": ["2", 3]}, "'references' is 3, expected a text that is not empty."),
    ],
)
def test_a_faulty_field_of_a_generation_row_is_named(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError) as caught:
        RowReader([]).rows([("l", {"id": "a", "prompt": "1+1=", "completion": "2", **change})])
    assert str(caught.value) == f"l (id 'a'): {fault}"


CENSUS = {"id": "adult_text-13351", "text": "A 25 year old person.", "label": 0, "group": "male|white"}
COMMIT = {"id": "angularjs-497839f583ca", "text": "$cacheFactory: add service", "label": 1, "time": 2011}


@pytest.mark.parametrize(
    ("record", "group", "time"),
    [
        (CENSUS, "male|white", None),
        (CENSUS | {"group": 3}, "3", None),
        (CENSUS | {"group": None}, None, None),
        (COMMIT, None, "2011"),
        (COMMIT | {"date": "2011-02-16"}, None, "2011-02-16"),
        (COMMIT | {"date": None}, None, "2011"),
        (COMMIT | {"time": "2011-02-16T10:00:00+02:00"}, None, "2011-02-16T10:00:00+02:00"),
    ],
)
def test_a_row_keeps_its_group_and_its_date_or_time(
    record: dict[str, Any], group: str | None, time: str | None
) -> None:
    [row] = RowReader(["0", "1"]).rows([("p", record)])
    assert (row.group, row.time) == (group, time)
    [written] = RowReader([]).rows([("p", record | {"prompt": "p", "completion": "c"})])
    assert (written.group, written.time) == (group, time)


def said(*turns: str) -> list[dict[str, Any]]:
    """Messages from `role: content`."""
    return [dict(zip(("role", "content"), turn.split(": "), strict=True)) for turn in turns]


def test_a_conversation_is_asked_up_to_its_last_answer() -> None:
    messages = said("system: brief", "user: 1+1=", "assistant: 2", "user: 2+2=", "assistant: 4")
    alone = {"id": "b", "messages": messages[3:], "references": ["four"], "prompt": "not read"}
    [row, single] = RowReader([]).rows([("p", {"id": "a", "messages": messages}), ("p", alone)])
    earlier = tuple(messages[:3])
    assert row == GenerationRow("a", "2+2=", "4", None, ["4"], earlier, all_turns=True)
    assert row.asked == ("2+2=", "brief\n1+1=\n2")
    assert single == GenerationRow("b", "2+2=", "4", None, ["4", "four"])
    assert digested(single) == ["b", "2+2=", "4", None, ["4", "four"]]
    assert digested(row)[5:] == [{"earlier": earlier, "all_turns": True}]
    other = answered_by(row, single)
    assert other == row._replace(references=["4", "four"])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"group": ["a"]}, "'group' is ['a'], expected a text."),
        ({"group": 0.5}, "'group' is 0.5, expected a text."),
        ({"group": " "}, "'group' is ' ', expected a text."),
        ({"group": "\ud800"}, r"'group' is '\ud800', expected a text."),
        ({"time": "May"}, "'time' is 'May', expected an ISO date or a year."),
        ({"time": 1297814400}, "'time' is 1297814400, expected an ISO date or a year."),
        ({"time": True}, "'time' is True, expected an ISO date or a year."),
        ({"time": "20110216"}, "'time' is '20110216', expected an ISO date or a year."),
        ({"time": 2011, "date": "2011-02-30"}, "'date' is '2011-02-30', expected an ISO date or a year."),
    ],
)
def test_a_group_or_time_of_another_form_is_named(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError) as caught:
        RowReader(["0", "1"]).rows([("l", {"id": "a", "text": "b", "label": 0, **change})])
    assert str(caught.value) == f"l (id 'a'): {fault}"


def test_a_digest_takes_in_group_and_time_only_where_they_are() -> None:
    assert digested(Row("a", "b", None, 1)) == ["a", "b", None, 1]
    assert digested(Row("a", "b", None, 1, time="2011")) == ["a", "b", None, 1, {"time": "2011"}]
    row = GenerationRow("a", "b", "c", None, ["c"], group="x", time="2011")
    assert digested(row) == ["a", "b", "c", None, ["c"], {"group": "x", "time": "2011"}]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"messages": None}, "'messages' is missing, expected a list of messages."),
        ({"messages": []}, "'messages' is [], expected a list of messages."),
        ({"messages": "hi"}, "'messages' is 'hi', expected a list of messages."),
        ({"messages": ["hi"]}, "'messages[0]' is 'hi', expected an object with 'role' and 'content'."),
        (
            {"messages": said("tool: hi", "assistant: 2")},
            "'messages[0].role' is 'tool', expected one of system, user, assistant.",
        ),
        (
            {"messages": [{"content": "hi"}]},
            "'messages[0].role' is missing, expected one of system, user, as",
        ),
        (
            {"messages": [*said("user: hi"), {"role": "assistant", "content": None}]},
            "'messages[1].content' is missing, expected a text that is not empty.",
        ),
        (
            {"messages": said("user: ", "assistant: 2")},
            "'messages[0].content' is '', expected a text that is",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "'messages[0].content' is [{'type': 'text'}], expected a text that is not empty.",
        ),
        (
            {"messages": said("user: hi", "assistant: 2", "user: 3")},
            "'messages' ends with the role 'assistant' and 'user', expected a message of the user and then the "
            "assistant's answer at the end.",
        ),
        (
            {"messages": said("user: hi")},
            "'messages' ends with the role 'user', expected a message of the user",
        ),
        (
            {"messages": said("system: hi", "assistant: 2")},
            "'messages' ends with the role 'system' and 'assis",
        ),
        ({"completion": "2"}, "there are 'messages' and 'completion', expected one of the two."),
    ],
)
def test_a_faulty_field_of_a_conversation_is_named(change: dict[str, Any], fault: str) -> None:
    record = {"id": "a", "messages": said("user: hi", "assistant: 2"), **change}
    with pytest.raises(InputError) as caught:
        RowReader([]).rows([("l", record)])
    assert str(caught.value).startswith(f"l (id 'a'): {fault}")


def test_an_id_may_stand_once_in_all_splits_of_a_task() -> None:
    reader = RowReader(["0", "1"])
    reader.rows([("train, line 1", RECORD)])
    with pytest.raises(InputError) as caught:
        reader.rows([("val, line 9", RECORD)])
    assert (
        str(caught.value)
        == "val, line 9: the id 'a' is also that of train, line 1, expected another id per row."
    )


def test_labels_must_be_two_and_differ() -> None:
    check_labels("p", {"0": "no", "1": "yes"})
    with pytest.raises(InputError, match="p, field 'labels' holds 1 labels, expected two or more"):
        check_labels("p", {"0": "no"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no", "no"),
        ("very_good", "very good"),
        ("a b", "a  b"),
        ("caf\u00e9", "cafe\u0301"),
        ("good", "go\u200bod"),
        ("a \u2060 b", "a b"),
    ],
)
def test_labels_must_look_different(one: str, other: str) -> None:
    with pytest.raises(
        InputError, match=r"p, field 'labels' has the same words for two labels, .* and .*: expect"
    ):
        check_labels("p", {"0": one, "1": other})


@pytest.mark.parametrize(
    "labels", [{"a\nb": "no", "1": "yes"}, {"0": "\u200b", "1": "yes"}, {"0": "\ud800", "1": "yes"}]
)
def test_label_ids_and_words_are_visible_lines(labels: dict[str, str]) -> None:
    with pytest.raises(
        InputError, match=r"p, field 'labels': .* is not allowed: expected one line"
    ) as caught:
        check_labels("p", labels)
    assert "\n" not in str(caught.value)


def test_a_column_of_true_and_false_has_label_ids() -> None:
    rows = RowReader(["false", "true"]).rows([("p", {"id": "a", "text": "b", "label": True})])
    assert rows == [Row("a", "b", None, 1)]


def test_long_lists_of_names_are_cut() -> None:
    assert shown_names(["a", "b"]) == "a, b"
    assert shown_names(str(i) for i in range(30)).endswith("10, 11, ... (30 in all)")
