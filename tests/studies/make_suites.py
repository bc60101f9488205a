"""Makes the task suites of the fidelity studies from the suite of real classification tasks.

Usage: python tests/studies/make_suites.py CLASSIFICATION_SUITE FOLDER, which writes FOLDER/sst2, FOLDER/trec and
FOLDER/tweet_emotion. Each is small (100 to 150 rows a source), so that a subset trains in seconds.
"""

import gzip
import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

TARGET_ROWS, SOURCE_ROWS = 100, 150
STUDIES: dict[str, list[str]] = {
    "sst2": [
        *("mr", "subj", "trec", "clinc_domain", "dbpedia", "mnli", "blimp_agreement", "blimp_npi"),
        *("adult_text", "mpqa", "mr:flip_labels", "mr:shuffle_labels"),
    ],
    "trec": [
        *("trec:1", "trec:2", "trec:3", "trec:flip_labels", "trec:shuffle_labels", "clinc_domain", "dbpedia"),
        *("us_bill_topic", "subj", "mr", "mnli", "tweet_emotion"),
    ],
    "tweet_emotion": [
        *(
            "tweet_sentiment",
            "tweet_irony",
            "tweet_offensive",
            "tweet_emoji",
            "stance_feminist",
            "sst2",
            "mr",
        ),
        *("subj", "dbpedia", "trec", "tweet_emotion:1", "tweet_emotion:flip_labels"),
    ],
}
"""Sources by target: a task; a disjoint part of the target's own train rows, `:1` and so on, which are near
duplicates of one another; or a copy with wrong labels."""


class SuiteWriter:
    """Writes one study's suite."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.known = {
            task["name"]: task for task in json.loads((source / "manifest.json").read_text())["tasks"]
        }
        self.tasks: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def target(self, name: str) -> None:
        """Write the target: few train rows, and all validation and test rows."""
        self._task(name, name, {"train": (0, TARGET_ROWS), "val": (0, None), "test": (0, None)})

    def auxiliary(self, source: str, target: str) -> None:
        """Write one source in the words of `STUDIES`."""
        base, _, kind = source.partition(":")
        if kind and not kind.isdigit():
            parent = f"{base}_1" if base == target else base
            self.tasks.append(
                {"name": f"{base}_{kind.split('_')[0]}", "derived_from": parent, "corruption": kind}
            )
            return
        first = TARGET_ROWS + (int(kind) - 1) * SOURCE_ROWS if kind else 0
        self._task(f"{base}_{kind}" if kind else base, base, {"train": (first, first + SOURCE_ROWS)})

    def finish(self, suite: str) -> None:
        """Write the manifest, last."""
        content = {"suite": f"study-{suite}", "tasks": self.tasks}
        (self.folder / "manifest.json").write_text(json.dumps(content, indent=1))

    def _task(self, name: str, base: str, parts: dict[str, tuple[int, int | None]]) -> None:
        known, splits = self.known[base], {}
        for split, (first, last) in parts.items():
            with gzip.open(self.source / known["splits"][split]["file"], "rt") as file:
                rows = [json.loads(line) for line in itertools.islice(file, first, last)]
            content = "".join(json.dumps(row | {"id": f"{name}-{row['id']}"}) + "\n" for row in rows).encode()
            path = self.folder / f"{name}.{split}.jsonl"
            path.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            splits[split] = {"file": path.name, "rows": len(rows), "sha256": digest}
        labels = known["labels"]
        self.tasks.append({"name": name, "kind": "classification", "labels": labels, "splits": splits})


def main(source: Path, folder: Path) -> None:
    """Write all suites."""
    for target, sources in STUDIES.items():
        writer = SuiteWriter(source, folder / target)
        writer.target(target)
        for each in sources:
            writer.auxiliary(each, target)
        writer.finish(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
