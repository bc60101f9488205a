"""A YAML document is plain data of bounded size, or is refused with its line."""

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.documents.texts import is_valid_unicode
from gradsift.components.shared.documents.yaml_document import MAX_YAML_BYTES, load_yaml
from gradsift.components.shared.errors import InputError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text().filter(is_valid_unicode),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text().filter(is_valid_unicode), inner, max_size=3)
    ),
    max_leaves=8,
)
BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))])
MERGED = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12))]
)


@given(PLAIN)
def test_plain_data_is_read_as_it_was_written(document: Any) -> None:
    assert load_yaml(yaml.safe_dump(document).encode(), "f", "data") == document


def test_dates_are_texts_and_merged_mappings_one() -> None:
    content = b"base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nday: 2020-13-45\ndays: [2020-01-01]\n"
    document = load_yaml(content, "f", "data")
    assert document["more"] == {"a": 1, "b": 3}
    assert (document["day"], document["days"]) == ("2020-13-45", ["2020-01-01"])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("a: 1\nb: !!int ''", r" in line 2 \('' is not of the type int\)"),
        ("a: !!int abc", r" in line 1 \('abc' is not of the type int\)"),
        ("a: !!bool abc", r" in line 1 \('abc' is not of the type bool\)"),
        ("a: !!float x", r" in line 1 \('x' is not of the type float\)"),
        ("a: !!null x", r" in line 1 \('x' is not of the type null\)"),
        ("a: !!timestamp x", r" in line 1 \(the tag '!!timestamp' is none of plain data\)"),
        ("a: !!binary YWJj", r" in line 1 \(the tag '!!binary' is none"),
        ("a: !!set {x}", r" in line 1 \(the tag '!!set' is none"),
        ("a: !!python/object:os.system {}", r" in line 1 \(the tag '!!python/object:os.system' is none"),
        ("a: " + "9" * 5000, r" in line 1 \(a number has more than 100 digits\)"),
        ("a: 1\na: 2", r" in line 2 \(the key 'a' is there twice\)"),
        ("? [a]\n: 1", r" in line 1 \(a key is a list or a mapping\)"),
        ("[" * 5000, r" in line 1 \(it is nested too deeply\)"),
        ("- " * 5000, r" in line 1 \(it is nested too deeply\)"),
        ("&a [*a]", r" in line 1 \(more than 100,000 values"),
        (BOMB, r" in line 1 \(more than 100,000 values"),
        (MERGED, r" in line 1 \(more than 100,000 values"),
        ('"\\ud800"', r" in line 1 \(a text holds half of a surrogate pair\)"),
        ('"\\UFFFFFFFF"', r" \(.*\)"),
        ("a: [", r" in line 1 \("),
        ("a: *b", r" in line 1 \(found undefined alias 'b'\)"),
        ("a: 1\n---\nb: 2", r" in line 2 \("),
        ("a\0", r" \("),
    ],
)
def test_what_is_not_plain_and_bounded_is_refused_at_once(content: str, fault: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError, match=rf"^f is not valid YAML{fault}.*: expected data\.$") as caught:
        load_yaml(content.encode(), "f", "data")
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 5


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(InputError, match=r"^f is not valid YAML \("):
        load_yaml(b"a: \xff", "f", "data")


def test_a_large_document_is_refused_unread() -> None:
    with pytest.raises(InputError, match=r"^f is larger than 1,048,576 bytes: expected data\.$"):
        load_yaml(b"-" * (MAX_YAML_BYTES + 1), "f", "data")


def test_an_empty_document_is_nothing() -> None:
    assert load_yaml(b"# nothing", "f", "data") is None
