"""The shipped suites are what their descriptions say, and may be shipped."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from gradsift.components.data_preparation.cleaning.cleaning import clean_suite
from gradsift.components.shared.data.suites.task_suite import DEMO_FOLDERS, TaskSuite, read_suite
from gradsift.components.shared.parameters.data import DataPreparationConfig

PLAIN_TASKS = [
    "mr",
    "subj",
    "trec",
    "clinc_domain",
    "dbpedia",
    "mnli",
    "blimp_agreement",
    "blimp_npi",
    "adult_text",
]


WORD_TASKS = [
    "concept",
    "colour",
    "middle_word",
    "first_in_alphabet",
    "capitalize",
    "next_letter",
    "word_length",
    "country",
    "company",
]


@pytest.fixture(scope="module")
def demo() -> TaskSuite:
    return read_suite(DataPreparationConfig())


@pytest.fixture(scope="module")
def demo_lm() -> TaskSuite:
    return read_suite(DataPreparationConfig(suite="demo-lm", target="adjective"))


@pytest.fixture(scope="module")
def demo_groups() -> TaskSuite:
    return read_suite(DataPreparationConfig(suite="demo-groups", target="census"))


@pytest.fixture(scope="module")
def demo_periods() -> TaskSuite:
    return read_suite(DataPreparationConfig(suite="demo-periods", target="reviews", periods="year"))


@pytest.fixture(scope="module", params=["demo", "demo-lm", "demo-groups", "demo-periods"])
def each(
    request: pytest.FixtureRequest,
    demo: TaskSuite,
    demo_lm: TaskSuite,
    demo_groups: TaskSuite,
    demo_periods: TaskSuite,
) -> tuple[Path, TaskSuite]:
    """The folder of a shipped suite, and what is read from it."""
    suites = {"demo": demo, "demo-lm": demo_lm, "demo-groups": demo_groups, "demo-periods": demo_periods}
    return DEMO_FOLDERS[request.param], suites[request.param]


def test_it_has_a_small_target_helpful_unrelated_and_harmful_tasks(demo: TaskSuite) -> None:
    sizes = {task.name: {split: len(rows) for split, rows in task.splits.items()} for task in demo.tasks}
    auxiliary = {name: {"train": 250} for name in [*PLAIN_TASKS, "mr_flipped", "mr_shuffled"]}
    assert sizes == {"sst2": {"train": 200, "val": 481, "test": 1000}, **auxiliary}


def test_that_of_the_language_model_has_one_word_answers_and_a_shuffled_copy(demo_lm: TaskSuite) -> None:
    sizes = {task.name: {split: len(rows) for split, rows in task.splits.items()} for task in demo_lm.tasks}
    sources = {name: {"train": 60} for name in [*WORD_TASKS, "concept_shuffled"]}
    assert sizes == {"adjective": {"train": 40, "val": 100, "test": 160}, **sources}
    tasks = {task.name: task.splits["train"] for task in demo_lm.tasks}
    pairs = list(zip(tasks["concept"], tasks["concept_shuffled"], strict=True))
    assert all(original.prompt == copy.prompt for original, copy in pairs)
    assert sum(original.completion != copy.completion for original, copy in pairs) > 50
    for rows in [tasks["adjective"], tasks["concept"]]:
        assert all(
            row.completion in row.prompt.split("Input: ")[1].split("\n")[0].split(", ") for row in rows
        )


def test_that_with_groups_has_both_sexes_in_every_split_and_a_source_without_groups(
    demo_groups: TaskSuite,
) -> None:
    tasks = {task.name: task.splits for task in demo_groups.tasks}
    assert list(tasks) == [
        "census",
        "census_private",
        "census_self_employed",
        "census_government",
        "mr",
        "census_flipped",
    ]
    for rows in tasks["census"].values():
        sexes = [str(row.group).split("|")[0] for row in rows]
        assert set(sexes) == {"female", "male"}
        assert min(sexes.count(sex) for sex in set(sexes)) >= 30
    assert all(row.group is None for row in tasks["mr"]["train"])


def test_that_of_periods_has_the_demos_reviews_with_their_labels_swapped_in_four_years(
    demo: TaskSuite, demo_periods: TaskSuite
) -> None:
    names = ["reviews", *(f"reviews.{year}" for year in range(2023, 2016, -1))]
    assert [task.name for task in demo_periods.tasks] == names
    newest, *past = demo_periods.tasks
    assert {split: len(rows) for split, rows in newest.splits.items()} == {
        "train": 60,
        "val": 240,
        "test": 600,
    }
    assert {len(task.splits["train"]) for task in past} == {80}
    originals = {row.id: row for rows in demo.tasks[0].splits.values() for row in rows}
    for task in demo_periods.tasks:
        right = task.period not in {"2020", "2021", "2022", "2023"}
        for rows in task.splits.values():
            assert abs(sum(row.label for row in rows) - len(rows) / 2) < 1
            assert all(row.text == originals[row.id].text for row in rows)
            assert {row.label == originals[row.id].label for row in rows} == {right}


def test_it_is_clean_already(each: tuple[Path, TaskSuite]) -> None:
    _, suite = each
    assert not any(
        any(counts.values()) for task in clean_suite(suite, 0, 0) for counts in task.removed.values()
    )


def test_harmful_copies_carry_mrs_texts_under_wrong_labels(demo: TaskSuite) -> None:
    tasks = {task.name: task.splits["train"] for task in demo.tasks}
    for name, wrong in {"mr_flipped": range(250, 251), "mr_shuffled": range(100, 151)}.items():
        pairs = list(zip(tasks["mr"], tasks[name], strict=True))
        assert all(original.text == copy.text for original, copy in pairs)
        assert sum(original.label != copy.label for original, copy in pairs) in wrong


def test_label_names_are_plain_words(demo: TaskSuite) -> None:
    for task in demo.tasks:
        assert all(label.replace(" ", "").isalnum() for label in task.labels), task.labels


def test_train_texts_are_short(demo: TaskSuite) -> None:
    for task in demo.tasks:
        for row in task.splits["train"]:
            assert len(row.text.split()) + len((row.text_pair or "").split()) <= 60


def test_every_task_states_its_licence_and_is_attributed(each: tuple[Path, TaskSuite]) -> None:
    folder, suite = each
    licences = (folder / "LICENSES.md").read_text()
    manifest = json.loads((folder / "manifest.json").read_text())
    for task in suite.tasks:
        assert task.licence
        assert task.name.partition(".")[0] in licences
    for entry in manifest["tasks"]:
        if "source" in entry:
            assert f"| {entry['name']} | {entry['original_dataset']} | {entry['licence']} |" in licences
            assert entry["source"]["commit"] in licences


def test_it_is_small_and_its_files_are_the_ones_in_the_manifest(each: tuple[Path, TaskSuite]) -> None:
    folder, _ = each
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    manifest = json.loads((folder / "manifest.json").read_text())
    records = [split for task in manifest["tasks"] for split in task.get("splits", {}).values()]
    assert {path.name for path in folder.glob("*.gz")} == {record["file"] for record in records}
    for record in records:
        content = (folder / record["file"]).read_bytes()
        assert record["sha256"] == hashlib.sha256(content).hexdigest()
        assert content[4:8] == bytes(4), "the gzip header holds no time"
        assert record["rows"] == gzip.decompress(content).count(b"\n")


def test_rows_hold_no_group_membership(each: tuple[Path, TaskSuite]) -> None:
    """All except those of the suite that exists to compare groups."""
    fields = {"id", "text", "text_pair", "label", "prompt", "completion", "time"}
    if each[0] == DEMO_FOLDERS["demo-groups"]:
        fields.add("group")
    for path in each[0].glob("*.gz"):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            assert json.loads(line).keys() <= fields
