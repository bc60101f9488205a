"""Cleaning removes duplicates and leaks, samples by label, and accounts for every row."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.data_preparation.cleaning.cleaning import (
    clean_suite,
    described,
    normalised,
    row_key,
    stratified_sample,
)
from gradsift.components.shared.data.prepared_data import Message
from gradsift.components.shared.data.suites.task import AnyRow, GenerationRow, Row, Task
from gradsift.components.shared.data.suites.task_suite import TaskSuite
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.prompt_format import Fit

TEXT = st.sampled_from(
    [f"{word}{mark}" for word in ("a", "A", "b", "c d", "c  D", "e", "f") for mark in ("", " ")]
)
ROWS = st.lists(st.tuples(TEXT, st.none() | TEXT, st.integers(0, 1)), max_size=12)


def task(name: str, **splits: list[Any]) -> Task:
    """Make a task whose rows are given as texts or as (text, text_pair, label)."""
    read: dict[Any, list[Row]] = {}
    for split, values in splits.items():
        full = [(value, None, n % 2) if isinstance(value, str) else value for n, value in enumerate(values)]
        read[split] = [Row(f"{name}-{split}-{n}", *value) for n, value in enumerate(full)]
    return Task(name, ["bad", "good"], read)


def suite(*tasks: Task) -> TaskSuite:
    return TaskSuite("s", "m", list(tasks))


def texts(rows: list[Row]) -> list[str]:
    return [row.text for row in rows]


def test_texts_that_differ_in_case_white_space_and_form_are_the_same() -> None:
    assert normalised("  Straße\u00a0\tﬁne\n") == normalised("STRASSE fine") == "strasse fine"
    assert normalised("\uff26\uff55\uff4c\uff4c \u2460") == "full 1"
    assert normalised("caf\u00e9") == normalised("cafe\u0301")
    assert normalised("a b") != normalised("ab")


def test_the_pair_belongs_to_what_is_compared() -> None:
    assert row_key(Row("1", "a", "b", 0)) == row_key(Row("2", "A", "B ", 1))
    assert row_key(Row("1", "a", "b", 0)) != row_key(Row("2", "a", None, 0))
    assert row_key(Row("1", "a", "b", 0)) != row_key(Row("2", "b", "a", 0))


def test_of_duplicates_in_a_split_the_first_stays_whatever_its_label() -> None:
    films = task(
        "films", train=[("a", None, 1), ("A ", None, 0), ("b", None, 0), ("b", None, 0)], val=["v", "V"]
    )
    (cleaned,) = clean_suite(suite(films), 0, 0)
    assert [row.id for row in cleaned.task.splits["train"]] == ["films-train-0", "films-train-2"]
    assert cleaned.removed == {"train": {"duplicate": 2}, "val": {"duplicate": 1}}


def test_val_gives_way_to_test_and_train_to_both() -> None:
    films = task("films", train=["a", "b", "c", "d"], val=["a", "x"], test=["b", "X", "y"])
    (cleaned,) = clean_suite(suite(films), 0, 0)
    assert texts(cleaned.task.splits["train"]) == ["c", "d"]
    assert texts(cleaned.task.splits["val"]) == ["a"]
    assert texts(cleaned.task.splits["test"]) == ["b", "X", "y"]
    assert cleaned.removed == {"train": {"in_val_or_test": 2}, "val": {"in_test": 1}, "test": {}}


def test_train_rows_give_way_to_the_held_out_rows_of_every_task() -> None:
    films = task("films", train=["a", "b", "c"], val=["v"], test=["t"])
    books = task("books", train=["V", "t ", "a", "d"], val=["C"])
    cleaned_films, cleaned_books = clean_suite(suite(films, books), 0, 0)
    assert texts(cleaned_films.task.splits["train"]) == ["a", "b"]
    assert texts(cleaned_books.task.splits["train"]) == ["a", "d"], "another task's train rows do not matter"
    assert texts(cleaned_films.task.splits["val"]) == ["v"]


@given(ROWS, ROWS, ROWS, ROWS)
def test_no_row_is_lost_uncounted_and_nothing_leaks(train: Any, val: Any, test: Any, other: Any) -> None:
    anchors = [("train 0", None, 0), ("train 1", None, 1)]
    films = task(
        "films", train=anchors + train, val=[("val", None, 0), *val], test=[("test", None, 0), *test]
    )
    books = task("books", train=anchors + other)
    before = suite(films, books)
    after = clean_suite(before, 0, 0)
    for original, cleaned in zip(before.tasks, after, strict=True):
        for split, rows in original.splits.items():
            kept = cleaned.task.splits[split]
            assert len(kept) + sum(cleaned.removed[split].values()) == len(rows)
            assert len({row_key(row) for row in kept}) == len(kept)
            assert [row for row in rows if row in kept] == kept
    held_out = {row_key(row) for split in ("val", "test") for row in films.splits[split]}
    for cleaned in after:
        assert not {row_key(row) for row in cleaned.task.splits["train"]} & held_out
    in_test = {row_key(row) for row in films.splits["test"]}
    assert not {row_key(row) for row in after[0].task.splits["val"]} & in_test


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_a_sample_keeps_the_shares_of_the_labels(labels: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(labels)))
    sample = stratified_sample(labels, size, seed=0)
    assert len(sample) == len(set(sample)) == size
    assert sample == sorted(sample)
    counts, drawn = Counter(labels), Counter(labels[number] for number in sample)
    for label, count in counts.items():
        assert abs(drawn[label] - count * size / len(labels)) < 1


def test_the_largest_remainders_are_rounded_up() -> None:
    labels = [0] * 70 + [1] * 16 + [2] * 14
    assert Counter(labels[number] for number in stratified_sample(labels, 10, seed=1)) == {0: 7, 1: 2, 2: 1}


def test_a_sample_follows_its_seed() -> None:
    labels = [0, 1] * 50
    assert stratified_sample(labels, 20, seed=1) == stratified_sample(labels, 20, seed=1)
    assert stratified_sample(labels, 20, seed=1) != stratified_sample(labels, 20, seed=2)


def test_a_cap_samples_train_rows_only_and_is_counted() -> None:
    films = task("films", train=[f"text {n}" for n in range(20)], val=[f"val {n}" for n in range(9)])
    (cleaned,) = clean_suite(suite(films), 6, 0)
    assert Counter(row.label for row in cleaned.task.splits["train"]) == {0: 3, 1: 3}
    assert cleaned.removed == {"train": {"over_cap": 14}, "val": {}}
    assert len(cleaned.task.splits["val"]) == 9
    (whole,) = clean_suite(suite(films), 20, 0)
    assert whole.removed["train"] == {}


def test_prompts_are_compared_whatever_their_completions_and_sampled_without_labels() -> None:
    def sums(split: str, *prompts: str) -> list[GenerationRow]:
        return [GenerationRow(f"{split}-{n}", each, str(n), None, [str(n)]) for n, each in enumerate(prompts)]

    splits = {"train": sums("train", "1+1", "1 + 1", "1 + 1 ", "v", "2", "3"), "val": sums("val", "V")}
    (cleaned,) = clean_suite(suite(Task("sums", [], splits)), 2, 0)  # type: ignore[arg-type]
    assert cleaned.removed["train"] == {"duplicate": 1, "in_val_or_test": 1, "over_cap": 2}
    assert len(cleaned.task.splits["train"]) == 2


def test_conversations_are_compared_with_all_that_is_said_before_the_answer() -> None:
    def asked(number: int, earlier: str) -> GenerationRow:
        said: list[Message] = [{"role": "user", "content": earlier}, {"role": "assistant", "content": "yes"}]
        return GenerationRow(f"{number}", "and then?", str(number), None, [str(number)], said)

    rows = [asked(0, "one"), asked(1, "ONE "), asked(2, "two")]
    (cleaned,) = clean_suite(suite(Task("chat", [], {"train": list(rows)})), 0, 0)
    assert [row.id for row in cleaned.task.splits["train"]] == ["0", "2"]
    assert cleaned.removed["train"] == {"duplicate": 1}


def test_rows_that_are_too_long_are_removed_from_every_split_and_those_cut_are_counted() -> None:
    films = task("films", train=["a", "b", "long", "cut", "cut 2"], val=["long val", "cut val"])

    def fit(of: Task, row: AnyRow) -> Fit:
        assert of is films
        word = row.asked[0].split()[0]
        return "too_long" if word == "long" else "cut" if word == "cut" else "whole"

    (cleaned,) = clean_suite(suite(films), 0, 0, fit)
    assert texts(cleaned.task.splits["train"]) == ["a", "b", "cut", "cut 2"]
    assert cleaned.removed == {"train": {"too_long": 1}, "val": {"too_long": 1}}
    assert cleaned.cut == {"train": 2, "val": 1}
    (sampled,) = clean_suite(suite(films), 2, 0, fit)
    cut = [text for text in texts(sampled.task.splits["train"]) if text.startswith("cut")]
    assert sampled.cut == {"train": len(cut), "val": 1}
    assert clean_suite(suite(films), 0, 0)[0].cut is None


def test_a_split_that_cleaning_empties_is_named() -> None:
    films = task("films", train=["a", "b"], val=["v", "V"], test=["v", "t"])
    with pytest.raises(InputError) as caught:
        clean_suite(suite(films), 0, 0)
    assert str(caught.value) == (
        "m: task 'films' has no rows left in its val split after cleaning (2 in test removed), "
        "expected at least one."
    )


def test_a_train_split_of_one_label_is_named() -> None:
    films = task("films", train=[("a", None, 1), ("b", None, 1), ("t", None, 0)], test=["t"])
    with pytest.raises(InputError) as caught:
        clean_suite(suite(films), 0, 0)
    assert str(caught.value) == (
        "m: the train split of task 'films' holds rows of one label only, 'good', expected two labels or "
        "more (rows removed before: 1 in val or test)."
    )


def test_removed_rows_are_described_in_words() -> None:
    assert described({"duplicate": 2, "in_val_or_test": 1}) == "2 duplicate, 1 in val or test"
    assert described({}) == "none"
