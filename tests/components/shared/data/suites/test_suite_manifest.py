"""A manifest is read in its two forms, or refused with the field's name."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.data.suites.suite_manifest import (
    OWN_NAMES,
    SAFE_NAME,
    DerivedTask,
    FolderTask,
    HubTask,
    Manifest,
    parse_manifest,
)
from gradsift.components.shared.data.suites.task_suite import DEMO_FOLDERS
from gradsift.components.shared.errors import InputError, shown

HUB_TASK = {"name": "a", "dataset": "owner/d", "text": "t", "label": "l", "splits": {"train": "train"}}


def folder_manifest(*tasks: Any) -> dict[str, Any]:
    return {"suite": "s", "tasks": list(tasks)}


def test_a_folder_manifest_holds_own_and_derived_tasks() -> None:
    content = folder_manifest(
        {
            "name": "a",
            "labels": {"0": "no", "1": " yes "},
            "splits": {"train": {"file": "x/a.jsonl.gz", "rows": 3}},
        },
        {"name": "a-flipped", "derived_from": "a", "corruption": "flip_labels"},
    )
    manifest = parse_manifest(Manifest[FolderTask], content, "m")
    own, derived = manifest.tasks
    assert isinstance(own, FolderTask)
    assert (own.labelled, own.labels, own.splits["train"].rows) == (True, {"0": "no", "1": "yes"}, 3)
    assert derived == DerivedTask(name="a-flipped", derived_from="a", corruption="flip_labels", seed=0)
    assert manifest.own_tasks() == {"a": own}


def test_fields_that_are_not_known_are_ignored_and_benchmark_names_the_suite() -> None:
    content = {
        "benchmark": "s",
        "caps": {"train": 5},
        "tasks": [
            {"name": "a", "num_labels": 2, "text_pair": False, "splits": {"fewshot": {"file": "a.jsonl"}}}
        ],
    }
    assert parse_manifest(Manifest[FolderTask], content, "m").suite == "s"


def test_label_ids_and_words_may_be_whole_numbers_and_ids_true_or_false() -> None:
    content = {"suite": "s", "tasks": [{**HUB_TASK, "labels": {0: "no", True: 2020}}]}
    (task,) = parse_manifest(Manifest[HubTask], content, "m").tasks
    assert isinstance(task, HubTask)
    assert task.labels == {"0": "no", "true": "2020"}


@pytest.mark.parametrize("field", ["name", "dataset", "revision", "text"])
def test_a_number_in_place_of_a_text_is_refused(field: str) -> None:
    content = {"suite": "s", "tasks": [{**HUB_TASK, field: 5.5}]}
    with pytest.raises(InputError, match=rf"field '{field}': input should be a valid string"):
        parse_manifest(Manifest[HubTask], content, "m")


@pytest.mark.parametrize("name", ["valid", "Test", "TRAIN", "dev", "validation", "eval"])
def test_a_split_under_another_name_is_not_ignored(name: str) -> None:
    content = folder_manifest({"name": "a", "splits": {name: {"file": "a.jsonl"}}})
    with pytest.raises(InputError, match=rf"the split '{name}' is not known: expected train, val or test"):
        parse_manifest(Manifest[FolderTask], content, "m")


@pytest.mark.parametrize(
    "name", ["data", "t.train", "x.partial", "tasks.json", "statistics.MD", "mixture.json"]
)
def test_the_name_of_a_file_of_ours_is_no_task_name(name: str) -> None:
    with pytest.raises(InputError, match="is also that of a file of gradsift: expected another name"):
        parse_manifest(Manifest[FolderTask], folder_manifest({"name": name}), "m")


@pytest.mark.parametrize("text", ["", " ", "a\nb", "\x1b[31m", "\u200b", "a\u2028b"])
def test_a_suite_name_is_one_visible_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^m: field 'suite': .* is not allowed: expected one line of text"):
        parse_manifest(Manifest[FolderTask], {"suite": text, "tasks": []}, "m")


SPLIT = {"splits": {"train": {"file": "a.jsonl"}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "m holds list, expected an object with 'suite' and 'tasks'."),
        ({"tasks": []}, "m: field 'suite': field required."),
        ({"suite": "s"}, "m: field 'tasks': field required."),
        ({"suite": "s", "tasks": {}}, "m: field 'tasks': input should be a valid list."),
        (folder_manifest("a"), "m: tasks[0]: input should be a valid dictionary or instance of FolderTask."),
        (folder_manifest(SPLIT), "m: tasks[0], field 'name': field required."),
        (
            folder_manifest({"name": "a", "splits": {"train": {}}}),
            "m: task 'a', field 'splits.train.file': field required.",
        ),
        (
            folder_manifest({"name": "a", "labels": {"0": ""}}),
            "m: task 'a', field 'labels.0': '' is not allowed: expected one line of text without control "
            "characters.",
        ),
        (
            folder_manifest({"name": "a", "kind": "regression"}),
            "m: task 'a', field 'kind': input should be 'classification' or 'generation'.",
        ),
        (
            folder_manifest({"name": "a", "derived_from": "b", "corruption": "burn"}),
            "m: task 'a', field 'corruption': input should be 'flip_labels' or 'shuffle_labels'.",
        ),
        (
            folder_manifest({"name": "a", "derived_from": "b", "corruption": "shuffle_labels", "seed": -1}),
            "m: task 'a', field 'seed': input should be greater than or equal to 0.",
        ),
        (
            folder_manifest(
                {"name": "a", "derived_from": "b", "corruption": "shuffle_labels", "seed": 2**32}
            ),
            "m: task 'a', field 'seed': input should be less than or equal to 4294967295.",
        ),
        (
            folder_manifest({"name": "a", "derived_from": "b", "corruption": "flip_labels"}, {"name": "c"}),
            "m: task 'a', field 'derived_from': there is no task 'b' with data of its own, expected one of c.",
        ),
        (
            folder_manifest({"name": "a", "group_by": "source", "min_rows": 0}),
            "m: task 'a', field 'min_rows': input should be greater than or equal to 1.",
        ),
        (
            folder_manifest({"name": "a", "min_rows": 5}),
            "m: task 'a': there is a 'min_rows' but no 'group_by': expected both or neither.",
        ),
        (
            folder_manifest({"name": "a"}, {"name": "a"}),
            "m: two tasks are called 'a', expected another name for each.",
        ),
    ],
)
def test_a_faulty_field_is_named(content: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_manifest(Manifest[FolderTask], content, "m")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "file", ["../a.jsonl", "/etc/a.jsonl", "x/../../a.jsonl", "x\\..\\a.jsonl", "", "a\0.jsonl"]
)
def test_a_path_that_leaves_the_folder_is_refused(file: str) -> None:
    content = folder_manifest({"name": "a", "splits": {"val": {"file": file}}})
    with pytest.raises(InputError) as caught:
        parse_manifest(Manifest[FolderTask], content, "m")
    assert str(caught.value) == (
        f"m: task 'a', field 'splits.val.file': the path {file!r} is not allowed: "
        "expected a relative path without '..'."
    )


def test_a_file_of_another_kind_is_refused() -> None:
    content = folder_manifest({"name": "a", "splits": {"train": {"file": "a.csv"}}})
    with pytest.raises(
        InputError, match=r"the file 'a\.csv' is not supported: expected a name ending in \.jsonl"
    ):
        parse_manifest(Manifest[FolderTask], content, "m")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "a/b", "../a", "a b", "a\n", "ä", "a\0", "-rf", "x" * 101]
)
def test_an_unsafe_task_name_is_refused(name: str) -> None:
    forms: list[Any] = [Manifest[FolderTask], Manifest[HubTask]]
    for form in forms:
        with pytest.raises(InputError) as caught:
            parse_manifest(form, folder_manifest({**HUB_TASK, "name": name, "splits": {}}), "m")
        assert str(caught.value) == (
            f"m: task {shown(name)}, field 'name': the task name {shown(name)} is not allowed: expected up to 100 "
            "letters, digits, '_', '-' or '.', not starting with '.' or '-'."
        )


@given(st.from_regex(SAFE_NAME, fullmatch=True).filter(lambda name: not OWN_NAMES.fullmatch(name)))
def test_a_safe_name_is_one_path_part(name: str) -> None:
    assert name not in {".", ".."}
    assert not set(name) & set("/\\\0\n ")
    (task,) = parse_manifest(Manifest[FolderTask], folder_manifest({"name": name}), "m").tasks
    assert task.name == name


def test_the_examples_in_the_readme_are_valid() -> None:
    readme = (DEMO_FOLDERS["demo"].parents[3] / "data_preparation" / "README.md").read_text()
    example = {kind: readme.split(f"```{kind}\n")[1].split("```")[0] for kind in ("json", "yaml")}
    folder = parse_manifest(Manifest[FolderTask], json.loads(example["json"]), "README.md")
    assert [task.name for task in folder.tasks] == ["films", "books", "books_flipped", "books_shuffled"]
    hub = parse_manifest(Manifest[HubTask], yaml.safe_load(example["yaml"]), "README.md")
    assert [task.name for task in hub.tasks] == ["films", "entailment"]
    further = readme.split("```yaml\n")[2].split("```")[0]
    [chat] = parse_manifest(
        Manifest[HubTask], {"suite": "s", "tasks": yaml.safe_load(further)}, "README.md"
    ).tasks
    assert isinstance(chat, HubTask)
    assert chat.columns == {"messages": "messages"}


def test_a_hub_task_needs_columns_and_known_splits() -> None:
    for field in ("dataset", "splits"):
        content = folder_manifest({key: value for key, value in HUB_TASK.items() if key != field})
        with pytest.raises(InputError, match=rf"^m: task 'a', field '{field}': field required\.$"):
            parse_manifest(Manifest[HubTask], content, "m")
    both = HUB_TASK | {"group": "g", "group_by": "g"}
    with pytest.raises(InputError, match=r"task 'a': expected 'group' or 'group_by', not both"):
        parse_manifest(Manifest[HubTask], folder_manifest(both), "m")
    spoils: list[dict[str, str | None]] = [
        {"text": None},
        {"label": None},
        {"prompt": "p"},
        {"messages": "m"},
    ]
    for spoiled in (*spoils, {"prompt": "p", "completion": "c"}):
        with pytest.raises(
            InputError, match=r"expected the columns 'text' and 'label', 'prompt' and 'completion', or 'mess"
        ):
            parse_manifest(Manifest[HubTask], folder_manifest({**HUB_TASK, **spoiled}), "m")
    with pytest.raises(
        InputError, match=r"task 'a', field 'splits\.dev.*': input should be 'train', 'val' or 'test'"
    ):
        parse_manifest(Manifest[HubTask], folder_manifest({**HUB_TASK, "splits": {"dev": "x"}}), "m")
