"""Texts are told apart as people see them, and shown as they are."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.documents.texts import (
    is_valid_unicode,
    is_visible,
    markdown_text,
    single_line,
    visible_form,
)


@pytest.mark.parametrize(
    "text", ["", " \n", "\u200b\ufeff", "\u0301", "\u202e\u200f", "\x1b\b", "\u3164", "\u2800"]
)
def test_what_cannot_be_seen_is_not_visible(text: str) -> None:
    assert not is_visible(text)
    assert is_visible(f"{text}.")


@pytest.mark.parametrize("text", ["a\nb", "a\u2028b", "a\x1b[31m", "\ud800", "\u200b", ""])
def test_a_line_is_visible_and_one(text: str) -> None:
    with pytest.raises(
        ValueError, match="is not allowed: expected one line of text without control characters"
    ):
        single_line(text)


@pytest.mark.parametrize(
    "text", ["good", "na\u00efve", "\u597d", "\U0001f469\u200d\u2695\ufe0f", "\u05d0 \u200f1"]
)
def test_ordinary_texts_of_any_script_are_lines(text: str) -> None:
    assert single_line(text) == text


def test_half_of_a_surrogate_pair_is_no_unicode() -> None:
    assert is_valid_unicode("\U0001f600")
    assert not is_valid_unicode("a\udfff")


@given(st.text())
def test_a_visible_form_is_that_of_itself(text: str) -> None:
    assert visible_form(visible_form(text)) == visible_form(text)
    assert visible_form(f"{text}\u200b") == visible_form(text)


@given(st.text(st.characters(codec="utf-8")))
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    escaped = markdown_text(text)
    assert re.sub(r"\\(.)", r"\1", escaped) == " ".join(text.split())
    assert not set(re.sub(r"\\.", "", escaped)) & set("\\`*_{}[]<>|&~!#\n")


def test_markdown_shows_names_as_they_are() -> None:
    assert markdown_text("mr_flipped and *all*") == r"mr\_flipped and \*all\*"
    assert markdown_text("a|b\n# <img>") == r"a\|b \# \<img\>"
