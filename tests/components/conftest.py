"""A small task suite on disk that a test can spoil."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gradsift.components.shared.data.suites.task_suite import TaskSuite, read_suite
from gradsift.components.shared.parameters.data import DataPreparationConfig


@dataclass
class SuiteOnDisk:
    """A suite folder: change `manifest` or the files, then `read`."""

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    def task(self, name: str) -> dict[str, Any]:
        return next(task for task in self.manifest["tasks"] if task["name"] == name)

    def write_rows(self, file: str, rows: list[dict[str, Any]]) -> None:
        (self.folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def rows(self, file: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / file).read_text().splitlines()]

    def config(self, **settings: Any) -> DataPreparationConfig:
        """Write the manifest, and return settings that use this suite with target `films`."""
        (self.folder / "manifest.json").write_text(json.dumps(self.manifest))
        return DataPreparationConfig(**{"suite": str(self.folder), "target": "films", **settings})

    def read(self, **settings: Any) -> TaskSuite:
        return read_suite(self.config(**settings))


@pytest.fixture
def suite(tmp_path: Path) -> SuiteOnDisk:
    """Target `films` (6/2/2 rows), auxiliary `books` (4 train rows, 2 val rows) and `books_flipped`."""
    on_disk = SuiteOnDisk(tmp_path / "suite")
    on_disk.folder.mkdir()
    sizes = {"films.train": 6, "films.val": 2, "films.test": 2, "books.train": 4, "books.val": 2}
    for name, size in sizes.items():
        rows = [{"id": f"{name}-{i}", "text": f"{name} text {i}", "label": i % 2} for i in range(size)]
        on_disk.write_rows(f"{name}.jsonl", rows)
    labels = {"0": "negative", "1": "positive"}
    on_disk.manifest = {
        "suite": "reviews",
        "tasks": [
            {
                "name": "books",
                "labels": labels,
                "licence": "MIT",
                "splits": split_files("books", "train", "val"),
            },
            {"name": "films", "labels": labels, "splits": split_files("films", "train", "val", "test")},
            {"name": "books_flipped", "derived_from": "books", "corruption": "flip_labels"},
        ],
    }
    return on_disk


def split_files(task: str, *splits: str) -> dict[str, dict[str, str]]:
    return {split: {"file": f"{task}.{split}.jsonl"} for split in splits}
