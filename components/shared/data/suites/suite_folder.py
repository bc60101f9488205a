"""Reads a task suite that lies in a folder: `manifest.json` and a JSON Lines file a task and split."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Iterator
from typing import Any

from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.suite_manifest import (
    FolderTask,
    Manifest,
    SplitFile,
    parse_manifest,
)
from gradsift.components.shared.data.suites.task import AnyRow, RowReader, Task, check_labels
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.storage import open_storage

MANIFEST = "manifest.json"


class SuiteFolder:
    """A suite in a local folder or under an `s3://` address.

    Attributes:
        where: address of the manifest.
        manifest: what it says.
    """

    def __init__(self, uri: str) -> None:
        """Read the manifest.

        Raises:
            InputError: there is no manifest, or it is not what was expected.
            StorageError: the address cannot be reached.
        """
        self._storage = open_storage(uri)
        self.where = join_uri(self._storage.uri, MANIFEST)
        if not self._storage.exists(MANIFEST):
            raise InputError(
                f"There is no task suite at {uri}: expected a folder or an s3:// address with a {MANIFEST}, "
                "a YAML file, or 'demo'."
            )
        content = _json(_text(self._storage.read(MANIFEST), self.where), self.where)
        self.manifest = parse_manifest(Manifest[FolderTask], content, self.where)

    def read(self, entry: FolderTask, splits: Collection[Split]) -> Task:
        """Return the task with those of the `splits` that it has.

        Raises:
            InputError: its labels, a file or a row are not what was expected.
            StorageError: a file cannot be read.
        """
        labels = entry.labels if entry.labelled else {}
        if entry.labelled:
            check_labels(f"{self.where}: task {entry.name!r}", labels)
        reader = RowReader(labels)
        return Task(
            name=entry.name,
            labels=list(labels.values()),
            splits={
                split: self._rows(entry.splits[split], reader) for split in splits if split in entry.splits
            },
            licence=entry.licence,
        )

    def _rows(self, split_file: SplitFile, reader: RowReader) -> list[AnyRow]:
        where = join_uri(self._storage.uri, split_file.file)
        content = self._storage.read(split_file.file)
        found = hashlib.sha256(content).hexdigest()
        if split_file.sha256 not in {None, found}:
            raise InputError(
                f"{where} has the sha256 {found}, expected {split_file.sha256} as in {self.where}."
            )
        rows = reader.rows(json_lines(content, where))
        if not rows:
            raise InputError(f"{where} has no rows, expected at least one.")
        if split_file.rows not in {None, len(rows)}:
            raise InputError(f"{where} has {len(rows)} rows, expected {split_file.rows} as in {self.where}.")
        return rows


def json_lines(content: bytes, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place ("<where>, line <n>") and the object of each line of a `.jsonl` or `.jsonl.gz` file.

    Lines end at a line feed only: other line separators of Unicode may stand inside a text. Blank lines are
    skipped.

    Raises:
        InputError: the file is not whole gzip or not UTF-8, or a line is not a JSON object.
    """
    if where.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{where} is not a whole gzip file ({error}), expected gzip by its name."
            ) from error
    for number, line in enumerate(_text(content, where).split("\n"), start=1):
        if line.strip():
            place = f"{where}, line {number}"
            record = _json(line, place)
            if not isinstance(record, dict):
                raise InputError(f"{place} holds {type(record).__name__}, expected a JSON object.")
            yield place, record


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}, line {line} is not UTF-8 (byte 0x{content[error.start]:02x}), expected text in UTF-8."
        ) from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error}), expected a JSON object.") from error
