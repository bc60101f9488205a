"""The shipped suite is what its description says, and may be shipped."""

import gzip
import hashlib
import json

import pytest

from gradsift.components.data_preparation.cleaning.cleaning import clean_suite
from gradsift.components.shared.data.suites.task_suite import DEMO_FOLDER, TaskSuite, read_suite
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


@pytest.fixture(scope="module")
def demo() -> TaskSuite:
    return read_suite(DataPreparationConfig())


def test_it_has_a_small_target_helpful_unrelated_and_harmful_tasks(demo: TaskSuite) -> None:
    sizes = {task.name: {split: len(rows) for split, rows in task.splits.items()} for task in demo.tasks}
    auxiliary = {name: {"train": 250} for name in [*PLAIN_TASKS, "mr_flipped", "mr_shuffled"]}
    assert sizes == {"sst2": {"train": 200, "val": 481, "test": 1000}, **auxiliary}


def test_it_is_clean_already(demo: TaskSuite) -> None:
    assert not any(
        any(counts.values()) for task in clean_suite(demo, 0, 0) for counts in task.removed.values()
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


def test_every_task_states_its_licence_and_is_attributed(demo: TaskSuite) -> None:
    licences = (DEMO_FOLDER / "LICENSES.md").read_text()
    manifest = json.loads((DEMO_FOLDER / "manifest.json").read_text())
    for task in demo.tasks:
        assert task.licence
        assert task.name in licences
    for entry in manifest["tasks"]:
        if "source" in entry:
            assert f"| {entry['name']} | {entry['original_dataset']} | {entry['licence']} |" in licences
            assert entry["source"]["commit"] in licences


def test_it_is_small_and_its_files_are_the_ones_in_the_manifest() -> None:
    assert sum(path.stat().st_size for path in DEMO_FOLDER.iterdir()) < 1_000_000
    manifest = json.loads((DEMO_FOLDER / "manifest.json").read_text())
    records = [split for task in manifest["tasks"] for split in task.get("splits", {}).values()]
    assert {path.name for path in DEMO_FOLDER.glob("*.gz")} == {record["file"] for record in records}
    for record in records:
        content = (DEMO_FOLDER / record["file"]).read_bytes()
        assert record["sha256"] == hashlib.sha256(content).hexdigest()
        assert content[4:8] == bytes(4), "the gzip header holds no time"
        assert record["rows"] == gzip.decompress(content).count(b"\n")


def test_rows_hold_no_group_membership() -> None:
    for path in DEMO_FOLDER.glob("*.gz"):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            assert json.loads(line).keys() <= {"id", "text", "text_pair", "label"}
