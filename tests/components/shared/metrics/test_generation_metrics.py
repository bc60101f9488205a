"""Metrics of written texts, against their definitions."""

import re
from decimal import Decimal
from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from gradsift.components.shared.metrics.generation_metrics import (
    best,
    exact_match,
    is_number,
    last_number,
    normalized,
    numeric_match,
    rouge_l,
)

SENTENCES = st.lists(st.sampled_from(["a", "b", "c", "d", "été"]), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        ("The Cat.", "cat"),
        ("  an  old\nhouse!", "Old house"),
        ("It's", "its"),
        ("-", "-"),
        ("A", "a"),
        ("", ""),
    ],
)
def test_texts_match_but_for_case_punctuation_articles_and_space(written: str, reference: str) -> None:
    assert exact_match(written, reference) == 1


@pytest.mark.parametrize(
    ("written", "reference"),
    [("cats", "cat"), ("another", "other"), ("-", "+"), ("A", "the"), ("", "a"), ("not old", "old")],
)
def test_other_texts_do_not_match(written: str, reference: str) -> None:
    assert exact_match(written, reference) == 0


@given(st.text())
def test_normalising_leaves_nothing_to_normalise(text: str) -> None:
    once = normalized(text)
    assert normalized(once) == once
    assert exact_match(text, f" {text}\n") == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 72.", "72"),
        ("1,234,567.50 dollars", "1234567.50"),
        ("12 apples, 3 pears", "3"),
        ("3,4", "4"),
        ("it is -5", "-5"),
        ("it is \N{MINUS SIGN}5 degrees", "-5"),
        ("-$3.20", "-3.20"),
        ("-€5", "-5"),
        ("$3", "3"),
        ("10-7", "7"),
        ("(2)-7", "7"),
        ("10 - 7 = 3", "3"),
        (".5", "0.5"),
        ("1234,567", "567"),
        ("18%", "18"),
        ("007", "7"),
        ("none", None),
        ("", None),
        ("-", None),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


@given(st.decimals(-(10**12), 10**12, places=3), st.text(alphabet="ab ,.=\n$", max_size=9))
def test_a_number_is_found_however_it_is_written(number: Decimal, before: str) -> None:
    for written in (f"{number:f}", f"{number:,f}", f"{number:.5f}"):
        assert last_number(f"{before} {written}") == number
        assert last_number(f"7 {written}.") == number
        assert is_number(written)
        assert numeric_match(f"{before} {written} in all", f"{number:f}") == 1
        assert numeric_match(written, f"{number + 1:f}") == 0


def test_a_text_without_a_number_matches_none() -> None:
    assert numeric_match("many", "many") == 0
    assert numeric_match("many", "3") == 0
    assert numeric_match("3", "many") == 0


@pytest.mark.parametrize("text", ["3", " -3.5 ", "1,000", "$20", "-$20", "-€5", "€5", "5 €", "18%", "7."])
def test_numbers_are_told_from_other_texts(text: str) -> None:
    assert is_number(text)


@pytest.mark.parametrize("text", ["", "three", "3 apples", "3 4", "3-4", "x3", "1/2"])
def test_other_texts_are_no_numbers(text: str) -> None:
    assert not is_number(text)


@given(SENTENCES, SENTENCES)
def test_rouge_l_is_the_f1_score_of_the_longest_common_subsequence(written: str, reference: str) -> None:
    first, second = tuple(written.split()), tuple(reference.split())

    @cache
    def common(i: int, j: int) -> int:
        if i == len(first) or j == len(second):
            return 0
        if first[i] == second[j]:
            return 1 + common(i + 1, j + 1)
        return max(common(i + 1, j), common(i, j + 1))

    length = common(0, 0)
    expected = 2 * length / (len(first) + len(second)) if length else 0.0
    assert rouge_l(written, reference) == pytest.approx(expected)


@given(*[st.text(alphabet="abAB .,-_'12\n", max_size=30)] * 2)
def test_rouge_l_is_the_packages_own_for_plain_latin_letters(written: str, reference: str) -> None:
    assume(all(re.search("[a-zA-Z0-9]", text) for text in (written, reference)))
    own = RougeScorer(["rougeL"]).score(reference, written)["rougeL"].fmeasure
    assert rouge_l(written, reference) == own


@given(st.text().filter(lambda text: bool(text.split())))
def test_a_text_is_like_itself_even_without_words(text: str) -> None:
    assert rouge_l(text, text) == 1


def test_rouge_l_knows_other_scripts() -> None:
    assert rouge_l("новый дом", "старый дом") == 0.5


@given(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=4))
def test_the_best_reference_counts(written: str, references: list[str]) -> None:
    for metric in (exact_match, numeric_match, rouge_l):
        each = [metric(written, reference) for reference in references]
        assert best(metric, written, references) == max(each)
    assert best(exact_match, written, [*references, written]) == 1
    assert re.sub(r"\s", "", written) == "" or best(rouge_l, written, [*references, written]) == 1
