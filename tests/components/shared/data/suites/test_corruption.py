"""Corrupted copies are wrong in the way they say, and keep what they should."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.data.suites.corruption import (
    Corruption,
    corrupted_copy,
    flip_labels,
    shuffle_labels,
)
from gradsift.components.shared.data.suites.task import GenerationRow, Row, Task
from gradsift.components.shared.errors import InputError

LABELS = st.integers(2, 6).flatmap(
    lambda classes: st.tuples(st.just(classes), st.lists(st.integers(0, classes - 1), max_size=30))
)


@given(LABELS)
def test_flipping_makes_every_label_wrong_and_valid(case: tuple[int, list[int]]) -> None:
    classes, labels = case
    flipped = flip_labels(labels, classes)
    assert all(old != new and 0 <= new < classes for old, new in zip(labels, flipped, strict=True))


def test_flipping_two_classes_swaps_them_and_more_move_on_by_one() -> None:
    assert flip_labels([0, 1, 1], 2) == [1, 0, 0]
    assert flip_labels([0, 1, 2], 3) == [1, 2, 0]


@given(LABELS, st.integers(0, 100))
def test_shuffling_keeps_the_counts_and_follows_the_seed(case: tuple[int, list[int]], seed: int) -> None:
    _, labels = case
    assert Counter(shuffle_labels(labels, seed)) == Counter(labels)
    assert shuffle_labels(labels, seed) == shuffle_labels(labels, seed)


def test_shuffling_loses_what_labels_say_of_rows() -> None:
    labels = [index % 2 for index in range(1000)]
    agreement = sum(old == new for old, new in zip(labels, shuffle_labels(labels, 0), strict=True))
    assert 440 < agreement < 560
    assert shuffle_labels(labels, 0) != shuffle_labels(labels, 1)


@pytest.mark.parametrize("corruption", ["flip_labels", "shuffle_labels"])
def test_a_copy_keeps_texts_and_order_and_takes_train_only(corruption: Corruption) -> None:
    rows = [Row(f"id-{index}", f"text {index}", "pair", index % 2) for index in range(20)]
    task = Task("mr", ["bad", "good"], {"train": rows, "test": rows[:2]}, licence="MIT")
    copy = corrupted_copy(task, "mr_bad", corruption, seed=3)
    assert (copy.name, copy.labels, copy.licence, copy.corruption) == (
        "mr_bad",
        ["bad", "good"],
        "MIT",
        corruption,
    )
    assert list(copy.splits) == ["train"]
    assert [row.id for row in copy.splits["train"]] == [f"mr_bad-id-{index}" for index in range(20)]
    assert [row[1:3] for row in copy.splits["train"]] == [row[1:3] for row in rows]
    assert [row.label for row in copy.splits["train"]] != [row.label for row in rows]
    assert task.splits["train"] == rows


SUMS = [GenerationRow(f"id-{n}", f"{n}+1=", f"{n + 1}", f"{n} and one", [f"{n + 1}"]) for n in range(20)]


def test_shuffled_completions_keep_their_rationale_and_leave_their_prompt() -> None:
    copy = corrupted_copy(Task("sums", [], {"train": SUMS}), "sums_bad", "shuffle_labels", seed=3)
    rows = copy.splits["train"]
    assert [(row.id, row.asked[0]) for row in rows] == [(f"sums_bad-{row.id}", row.prompt) for row in SUMS]
    assert sorted(row[2:] for row in rows) == sorted(row[2:] for row in SUMS)
    assert [row[2] for row in rows] != [row.completion for row in SUMS]
    assert corrupted_copy(Task("sums", [], {"train": SUMS}), "sums_bad", "shuffle_labels", seed=3) == copy


@pytest.mark.parametrize("corruption", ["flip_labels", "shuffle_labels"])
def test_a_wrong_label_leaves_group_and_time_with_their_text(corruption: Corruption) -> None:
    rows = [Row(str(n), "text", None, n % 2, f"group {n}", f"{2000 + n}") for n in range(20)]
    copy = corrupted_copy(Task("mr", ["bad", "good"], {"train": rows}), "mr_bad", corruption, seed=3)
    assert [(row.group, row.time) for row in copy.splits["train"]] == [(row.group, row.time) for row in rows]


def test_free_text_has_no_labels_to_flip() -> None:
    with pytest.raises(
        InputError, match=r"Task 'sums_bad', field 'corruption' is 'flip_labels': expected 'shuf"
    ):
        corrupted_copy(Task("sums", [], {"train": SUMS}), "sums_bad", "flip_labels", seed=0)
