"""Reads a task suite that lies in a folder: `manifest.json` and one JSON Lines file per task and split."""

import codecs
import gzip
import hashlib
import io
import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, BinaryIO

from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.suite_manifest import (
    FolderTask,
    Manifest,
    SplitFile,
    parse_manifest,
)
from gradsift.components.shared.data.suites.task import AnyRow, RowReader, Task, check_labels
from gradsift.components.shared.documents.json_document import decoded, load_json
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.settings import MAX_COUNT
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.bounded_reading import opened_file, read_file
from gradsift.components.shared.storage.storage import open_storage

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_LINE_BYTES = 2**20
MAX_BLANK_LINES = 100_000
MAX_FILE_BYTES = 2**30
"""Bound of one split's file, as it lies there and expanded."""
MAX_EXPANSION = 100
MIN_EXPANDED_BYTES = 16 * 2**20
"""A compressed file may expand to so many times its size, and to so many bytes in any case."""


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
        content = load_json(
            decoded(read_file(self._storage, MANIFEST, MAX_MANIFEST_BYTES), self.where), self.where
        )
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
        reader = RowReader(labels, entry.group_by or "group")
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
        with opened_file(self._storage, split_file.file, MAX_FILE_BYTES) as file:
            if split_file.sha256 is not None:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                if split_file.sha256 != found:
                    raise InputError(
                        f"{where} has the sha256 {found}, expected {split_file.sha256} as in {self.where}."
                    )
                file.seek(0)
            most = split_file.rows or MAX_COUNT
            rows = reader.rows(islice(json_lines(file, where), most + 1))
        if not rows:
            raise InputError(f"{where} has no rows, expected at least one.")
        if split_file.rows not in {None, len(rows)}:
            found = "more" if len(rows) > most else f"{len(rows)}"
            raise InputError(f"{where} has {found} rows, expected {split_file.rows} as in {self.where}.")
        return rows


def json_lines(file: BinaryIO, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place ("<where>, line <n>") and the object of each line of a `.jsonl` or `.jsonl.gz` file.

    Lines end at a line feed only: other line separators of Unicode may stand inside a text. Blank lines are
    skipped. Only one line is held at a time.

    Raises:
        InputError: the file is not whole gzip or not UTF-8, expands too far, has a line longer than
            `MAX_LINE_BYTES` or more than `MAX_BLANK_LINES` blank ones, or a line is not a JSON object.
    """
    blank = 0
    for number, line in enumerate(_lines(file, where), start=1):
        place = f"{where}, line {number}"
        if not line.strip():
            blank += 1
            if blank > MAX_BLANK_LINES:
                raise InputError(
                    f"{place} is the {blank:,}th blank line, expected at most {MAX_BLANK_LINES:,}."
                )
            continue
        record = load_json(_text(line, place), place)
        if not isinstance(record, dict):
            raise InputError(f"{place} holds {type(record).__name__}, expected a JSON object.")
        yield place, record


def _lines(file: BinaryIO, where: str) -> Iterator[bytes]:
    """Yield the lines of a file, as they are once it is expanded."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    most = MAX_FILE_BYTES
    if where.endswith(".gz"):
        most = min(most, max(MIN_EXPANDED_BYTES, MAX_EXPANSION * size))
        file = io.BufferedReader(gzip.GzipFile(fileobj=file))
    read, number = 0, 0
    try:
        while line := file.readline(MAX_LINE_BYTES + 1):
            read, number = read + len(line), number + 1
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{where}, line {number} is longer than {MAX_LINE_BYTES:,} bytes.")
            if read > most:
                raise InputError(
                    f"{where} expands from {size:,} to more than {most:,} bytes, the most expected."
                )
            yield line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{where} is not a whole gzip file ({error}), expected gzip by its name.") from error


def _text(line: bytes, place: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8 (byte 0x{line[error.start]:02x}), expected text in UTF-8."
        ) from None
