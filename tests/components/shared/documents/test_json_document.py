"""A JSON document is read as every reader would read it, or refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.documents.json_document import load_json, load_json_object
from gradsift.components.shared.errors import InputError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_json_is_read_as_it_was_written(document: Any) -> None:
    assert load_json(json.dumps(document), "f") == document


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "maximum recursion depth"),
        ("9" * 5000, "Exceeds the limit"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
        ("[NaN]", "NaN is no number of JSON"),
        ("-Infinity", "-Infinity is no number of JSON"),
        ("1e999", "1e999 is too large a number"),
    ],
)
def test_what_readers_differ_about_is_refused(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=rf"^f is not valid JSON \({fault}.*\), expected a JSON object\.$"):
        load_json(text, "f")


def test_an_object_is_asked_for() -> None:
    assert load_json_object(b'\xef\xbb\xbf{"a": 1}', "f") == {"a": 1}
    for content, kind in [(b"[]", "list"), (b"null", "NoneType"), (b"3", "int")]:
        with pytest.raises(InputError, match=rf"^f holds {kind}, expected a JSON object\.$"):
            load_json_object(content, "f")
    with pytest.raises(InputError, match=r"^f, line 2 is not UTF-8 \(byte 0xff\), expected text in UTF-8\.$"):
        load_json_object(b"{\n\xff}", "f")
