"""The gradient store: its one writer and its one reader.

`<root>/manifest.json` and, for every task and split, shards `<task>/<split>/<index>.safetensors` of a fixed
row count, each with a sidecar `<index>.json` (see `gradient_format`). Every file is created once and never
replaced. The manifest lists every shard with its size and sha256 and is written last: a store without one is
unfinished, and the sidecars say which of its shards need not be computed again.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from pydantic import ValidationError

from gradsift.components.shared.artifacts.step_output import DOWNLOADS, canonical_json
from gradsift.components.shared.errors import (
    AlreadyExistsError,
    GradientStoreError,
    GradsiftError,
    InputError,
    NotFoundError,
)
from gradsift.components.shared.gradient_store.gradient_format import (
    FloatArray,
    Shard,
    ShardRecord,
    Sidecar,
    StoreHeader,
    shard_content,
    shard_key,
    shard_of,
    sidecar_key,
)
from gradsift.components.shared.storage.addresses import checked_key, join_uri
from gradsift.components.shared.storage.local import LocalStorage
from gradsift.components.shared.storage.scratch import scratch_path
from gradsift.components.shared.storage.storage import Storage, open_storage

FORMAT = 2
MANIFEST = "manifest.json"
READ_AHEAD = 4

Split = Literal["train", "val"]


class GradientStoreWriter:
    """Writes shards in any order, resumes what an earlier writer left, and seals the store.

    One shard is uploaded while the next is computed, so a killed writer loses at most one that was computed.
    An upload that failed is reported by the next call, or at the end of a `with` block.
    """

    def __init__(self, storage: Storage, header: StoreHeader) -> None:
        self.storage = storage
        self.header = header
        self._present = set(storage.keys())
        self._unusable: set[str] = set()
        self._uploader = ThreadPoolExecutor(1)
        self._upload: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._uploader.shutdown()
        if error is None:
            self._finish_upload()

    def finished_shard(self, task: str, split: Split, index: int) -> ShardRecord | None:
        """Return the record of a shard that an earlier run of the same extraction left whole, else None.

        What else there is of the shard is cut short, altered or of another extraction; `write_shard` deletes it.
        """
        key = shard_key(task, split, index)
        if {key, sidecar_key(key)} <= self._present:
            sidecar = left_shard(self.storage, key)
            if sidecar is not None and sidecar.header == self.header.digest:
                return sidecar.shard
        self._unusable |= {key, sidecar_key(key)} & self._present
        return None

    def write_shard(self, task: str, split: Split, index: int, shard: Shard) -> ShardRecord:
        """Start to store one shard and then its sidecar, once the one before is stored; return its record.

        Raises:
            GradientStoreError: an array is not finite or has another shape than the header says, or another
                extraction has written this shard or the one before.
            StorageError: the shard before could not be stored.
        """
        arrays = self._checked_arrays(f"Task {task!r}, {split} split", shard)
        content = shard_content(self.header, shard.example_id, arrays)
        record = ShardRecord(
            key=shard_key(task, split, index),
            task=task,
            split=split,
            rows=len(shard.example_id),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        self._finish_upload()
        self._upload = self._uploader.submit(self._store, record, content)
        return record

    def seal(self, records: list[ShardRecord]) -> str:
        """Write the manifest, which makes the store readable, and return its sha256.

        Raises:
            GradientStoreError: another extraction has written the last shard, or the manifest.
            StorageError: the last shard or the manifest could not be stored.
        """
        self._finish_upload()
        manifest = {
            "format": FORMAT,
            **self.header.model_dump(),
            "shards": [record.model_dump() for record in records],
        }
        content = canonical_json(manifest).encode()
        self._create(MANIFEST, content)
        return hashlib.sha256(content).hexdigest()

    def _checked_arrays(self, where: str, shard: Shard) -> dict[str, FloatArray]:
        arrays = {}
        for name, shape in self.header.shapes(len(shard.example_id)).items():
            array = np.ascontiguousarray(getattr(shard, name), np.float32)
            if array.shape != shape:
                raise GradientStoreError(f"{where}: {name} has shape {array.shape}, expected {shape}.")
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise GradientStoreError(
                    f"{where}: {name} of row {shard.example_id[row]!r} is not finite; "
                    "the model's weights may have diverged in training (lower its learning rate)."
                )
            arrays[name] = array
        return arrays

    def _store(self, record: ShardRecord, content: bytes) -> None:
        for key in sorted(self._unusable & {record.key, sidecar_key(record.key)}):
            self.storage.delete(key)
        self._create(record.key, content)
        self._create(sidecar_key(record.key), Sidecar(header=self.header.digest, shard=record).content)

    def _create(self, key: str, content: bytes) -> None:
        try:
            self.storage.create(key, content)
        except AlreadyExistsError as error:
            raise GradientStoreError(
                f"Another extraction wrote other content to {join_uri(self.storage.uri, key)}: expected one "
                f"extraction at a time; delete {self.storage.uri} to have the gradient store made again."
            ) from error

    def _finish_upload(self) -> None:
        if self._upload is not None:
            self._upload.result()


class GradientStore:
    """Reader of a finished store; every shard is checked against the manifest before it is used.

    Shards of a store in object storage are downloaded once, to the system's temporary folder.
    """

    def __init__(self, uri: str, digest: str | None = None) -> None:
        """Open the store at `uri`; `digest` is the sha256 its manifest must have, where it is known.

        Raises:
            GradientStoreError: there is no manifest, it is not of format 2, or it is another one.
        """
        self.storage = open_storage(uri)
        where = join_uri(uri, MANIFEST)
        if not self.storage.exists(MANIFEST):
            raise GradientStoreError(
                f"The gradient store at {uri} is unfinished: it has no {MANIFEST}; run the extraction again."
            )
        content = self.storage.read(MANIFEST)
        self.digest = hashlib.sha256(content).hexdigest()
        if digest is not None and digest != self.digest:
            raise GradientStoreError(f"{where} was altered after the extraction had finished.")
        try:
            manifest = json.loads(content)
            if manifest.get("format") != FORMAT:
                raise GradientStoreError(
                    f"{where} has format {manifest.get('format')!r}: expected format {FORMAT}, which this version "
                    "of gradsift writes; run the extraction again."
                )
            self.shards = [ShardRecord(**shard) for shard in manifest["shards"]]
            del manifest["format"], manifest["shards"]
            self.header = StoreHeader(**manifest)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GradientStoreError(
                f"{where} is not a gradient store's manifest: {_first_line(error)}."
            ) from error
        _check_keys(self.shards, where)

    @property
    def train_rows(self) -> dict[str, int]:
        """Number of train rows of each task, in the store's order."""
        rows: dict[str, int] = {}
        for shard in self.shards:
            if shard.split == "train":
                rows[shard.task] = rows.get(shard.task, 0) + shard.rows
        return rows

    def check_origin(self, **expected: Any) -> None:
        """Check fields of the header, for example `data_digest=...` or `projection=...`.

        Raises:
            GradientStoreError: the store was made for other weights, tokenizer, data or another projection.
        """
        for field, value in expected.items():
            found = getattr(self.header, field)
            if found != value:
                what = field.removesuffix("_digest").replace("_", " ")
                if field.endswith("_digest"):
                    found, value = found[:12], value[:12]
                raise GradientStoreError(
                    f"The gradient store at {self.storage.uri} was made for another {what}: "
                    f"its {field} is {found}, expected {value}."
                )

    def read(self, task: str, split: Split) -> Iterator[Shard]:
        """Yield the shards of one task and split in order, each checked, while the next few are read.

        Raises:
            GradientStoreError: a shard is missing, truncated, altered, or of another store.
            StorageError: the storage is out of reach.
        """
        records = [record for record in self.shards if (record.task, record.split) == (task, split)]
        for _, shard in self._ahead(records, self._cached_content):
            yield shard.result()

    def damage(self) -> Iterator[tuple[ShardRecord, str | None]]:
        """Read every shard from where the store is; yield its record and what is wrong with it, None if nothing.

        Beyond what `read` checks, numbers must be finite and sidecars what the writer wrote.
        """
        for record, shard in self._ahead(self.shards, self._content):
            try:
                self._check_numbers(record, shard.result())
                self._check_sidecar(record)
            except GradsiftError as error:
                yield record, str(error)
            else:
                yield record, None

    def unlisted(self) -> list[str]:
        """Return the addresses of files in the store that the manifest knows nothing of."""
        listed = {key for shard in self.shards for key in (shard.key, sidecar_key(shard.key))}
        return [self._where(key) for key in sorted({*self.storage.keys()} - listed - {MANIFEST})]

    def _ahead(
        self, records: list[ShardRecord], content: Callable[[ShardRecord], bytes]
    ) -> Iterator[tuple[ShardRecord, Future[Shard]]]:
        """Yield the records in order with their shards, while the next few are read in other threads."""

        def load(record: ShardRecord) -> Shard:
            return shard_of(content(record), self.header, record.rows, self._where(record.key))

        pool = ThreadPoolExecutor(READ_AHEAD)
        waiting: deque[tuple[ShardRecord, Future[Shard]]] = deque()
        try:
            for record in records:
                waiting.append((record, pool.submit(load, record)))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)

    def _cached_content(self, record: ShardRecord) -> bytes:
        """Return a shard's content, checked; one in object storage is kept on the local disk."""
        if isinstance(self.storage, LocalStorage):
            return self._content(record)
        cache = LocalStorage(scratch_path("fetched", self.digest[:32]))
        try:
            content = cache.read(record.key)
        except NotFoundError:
            content = b""
        if _damage(content, record) is not None:
            content = self._content(record)
            cache.write(record.key, content)
        return content

    def _content(self, record: ShardRecord) -> bytes:
        """Return a shard's content from where the store is, checked against the manifest."""
        for _ in range(DOWNLOADS):
            try:
                content = self.storage.read(record.key)
            except NotFoundError as error:
                raise GradientStoreError(
                    f"The gradient store's shard {self._where(record.key)} is missing."
                ) from error
            damage = _damage(content, record)
            if damage is None:
                return content
        raise GradientStoreError(f"The gradient store's shard {self._where(record.key)} {damage}.")

    def _check_numbers(self, record: ShardRecord, shard: Shard) -> None:
        for name in self.header.shapes(record.rows):
            if not np.isfinite(getattr(shard, name)).all():
                where = self._where(record.key)
                raise GradientStoreError(f"The gradient store's shard {where}: {name} is not finite.")

    def _check_sidecar(self, record: ShardRecord) -> None:
        where = self._where(sidecar_key(record.key))
        try:
            content = self.storage.read(sidecar_key(record.key))
        except NotFoundError as error:
            raise GradientStoreError(f"The gradient store's file {where} is missing.") from error
        if content != Sidecar(header=self.header.digest, shard=record).content:
            raise GradientStoreError(
                f"The gradient store's file {where} was altered, or belongs to another shard or manifest."
            )

    def _where(self, key: str) -> str:
        return join_uri(self.storage.uri, key)


def find_store(uri: str) -> GradientStore | None:
    """Return the store at `uri` if it is sealed and all its shards are there."""
    storage = open_storage(uri)
    if not storage.exists(MANIFEST):
        return None
    store = GradientStore(uri)
    return store if {shard.key for shard in store.shards} <= set(storage.keys()) else None


def left_shard(storage: Storage, key: str) -> Sidecar | None:
    """Return the sidecar of the shard at `key`, or None if there is none or the shard is not what it says."""
    try:
        sidecar = Sidecar.model_validate_json(storage.read(sidecar_key(key)))
        whole = sidecar.shard.key == key and _damage(storage.read(key), sidecar.shard) is None
    except (ValidationError, NotFoundError):
        return None
    return sidecar if whole else None


def _check_keys(shards: list[ShardRecord], where: str) -> None:
    """Raise GradientStoreError unless each task and split's shards are numbered from 0, in order."""
    counts: dict[tuple[str, str], int] = {}
    for shard in shards:
        index = counts.get((shard.task, shard.split), 0)
        expected = shard_key(shard.task, shard.split, index)
        if shard.key != expected:
            raise GradientStoreError(f"{where} lists the shard {shard.key!r}: expected {expected!r} there.")
        try:
            checked_key(shard.key)
        except InputError as error:
            raise GradientStoreError(f"{where} lists a shard outside the store: {error}") from error
        counts[shard.task, shard.split] = index + 1


def _damage(content: bytes, record: ShardRecord) -> str | None:
    """Return what is wrong with a shard's content, or None if it is what the manifest says."""
    if len(content) != record.bytes:
        return f"has {len(content)} bytes, expected {record.bytes}"
    if hashlib.sha256(content).hexdigest() != record.sha256:
        return "was altered: its sha256 differs"
    return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
