"""The right tasks are chosen, read and corrupted, and wrong choices are named."""

from typing import Any

import pytest

from gradsift.components.shared.errors import InputError


def test_every_other_task_is_auxiliary_unless_some_are_chosen(suite: Any) -> None:
    assert [task.name for task in suite.read().tasks] == ["books", "films", "books_flipped"]
    assert [task.name for task in suite.read(auxiliary_tasks=["books_flipped"]).tasks] == [
        "films",
        "books_flipped",
    ]
    assert suite.read().name == "reviews"


def test_a_derived_task_is_a_corrupted_copy_of_its_origins_train_split(suite: Any) -> None:
    books, _, flipped = suite.read().tasks
    assert flipped.corruption == "flip_labels"
    assert flipped.splits.keys() == {"train"}
    assert [row.label for row in flipped.splits["train"]] == [1 - row.label for row in books.splits["train"]]
    assert not {row.id for row in flipped.splits["train"]} & {row.id for row in books.splits["train"]}


def test_the_target_itself_can_be_corrupted(suite: Any) -> None:
    suite.manifest["tasks"].append({"name": "worse", "derived_from": "films", "corruption": "shuffle_labels"})
    worse = suite.read(auxiliary_tasks=["worse"]).tasks[1]
    assert (worse.name, len(worse.splits["train"])) == ("worse", 6)


@pytest.mark.parametrize("origin", ["songs", "books_flipped"])
def test_an_unknown_origin_is_named(suite: Any, origin: str) -> None:
    suite.manifest["tasks"].append({"name": "worse", "derived_from": origin, "corruption": "flip_labels"})
    with pytest.raises(InputError) as caught:
        suite.read()
    assert str(caught.value) == (
        f"{suite.folder}/manifest.json: task 'worse', field 'derived_from': there is no task {origin!r} "
        "with data of its own, expected one of books, films."
    )


def test_an_origin_without_train_rows_is_named(suite: Any) -> None:
    del suite.task("books")["splits"]["train"]
    with pytest.raises(
        InputError, match="task 'books_flipped' is derived from 'books', which has no train split"
    ):
        suite.read(auxiliary_tasks=["books_flipped"])


def test_an_unknown_target_is_named(suite: Any) -> None:
    with pytest.raises(InputError) as caught:
        suite.read(target="songs")
    assert str(caught.value) == (
        f"{suite.folder}/manifest.json has no task 'songs', which was given as target: "
        "expected one of books, films, books_flipped."
    )


def test_an_unknown_auxiliary_task_is_named(suite: Any) -> None:
    with pytest.raises(
        InputError, match="has no task 'songs', which was given as auxiliary task: expected one of"
    ):
        suite.read(auxiliary_tasks=["books", "songs"])


def test_a_suite_of_the_target_alone_is_refused(suite: Any) -> None:
    suite.manifest["tasks"] = [suite.task("films")]
    with pytest.raises(InputError, match="has no task but the target 'films': expected one more"):
        suite.read()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_that_the_target_lacks_is_named(suite: Any, split: str) -> None:
    del suite.task("films")["splits"][split]
    with pytest.raises(InputError) as caught:
        suite.read()
    assert str(caught.value) == (
        f"{suite.folder}/manifest.json: the target task 'films' has no {split} split, "
        "expected train, val, test."
    )


def test_an_auxiliary_task_needs_train_only(suite: Any) -> None:
    del suite.task("books")["splits"]["val"]
    suite.read()
    del suite.task("books")["splits"]["train"]
    with pytest.raises(InputError, match="the auxiliary task 'books' has no train split, expected train"):
        suite.read(auxiliary_tasks=["books"])


def test_the_digest_follows_what_is_read_and_nothing_else(suite: Any) -> None:
    first = suite.read(auxiliary_tasks=["books"]).content_digest()
    suite.manifest["tasks"].append({"name": "songs", "splits": {}})
    suite.manifest["note"] = "unknown fields do not matter"
    assert suite.read(auxiliary_tasks=["books"]).content_digest() == first
    assert suite.read(auxiliary_tasks=["books", "books_flipped"]).content_digest() != first
    suite.task("books")["licence"] = "CC-BY-4.0"
    assert suite.read(auxiliary_tasks=["books"]).content_digest() != first


@pytest.mark.parametrize(
    "change",
    [
        {"text": "other"},
        {"label": 1},
        {"id": "other"},
        {"text_pair": "more"},
        {"group": "female"},
        {"time": 2011},
    ],
)
def test_the_digest_changes_with_any_field_of_a_row(suite: Any, change: dict[str, object]) -> None:
    first = suite.read().content_digest()
    rows = suite.rows("books.train.jsonl")
    suite.write_rows("books.train.jsonl", [{**rows[0], **change}, *rows[1:]])
    assert suite.read().content_digest() != first
