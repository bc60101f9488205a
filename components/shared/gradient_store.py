"""The gradient store, format 1: its one writer and its one reader.

`<root>/manifest.json` and, for every task and split, shards `<task>/<split>/<index>.safetensors` of a fixed
row count with a sidecar `<index>.json`. A shard holds, for its rows in order, `loss` [n], `margin` [n],
`gradient` [n, d] (projected gradient of the loss) and `probe` [n, R, d] (projected gradient of the loss under
labels sampled from the model). The manifest lists every shard with its size and sha256 and is written last:
a store without one is unfinished.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.step_output import canonical_json, digest_of
from gradsift.components.shared.storage import Storage, join_uri, open_storage

FORMAT = 1
MANIFEST = "manifest.json"

FloatArray = npt.NDArray[np.float32]


class StoreHeader(BaseModel):
    """What a store was made of and how; two stores can be used together only if this is equal.

    Attributes:
        dimension: d, numbers a projected gradient.
        blocks: number of independent projection blocks, each `dimension / blocks` wide.
        probes: R, sampled-label gradients an example.
        projection: kind, seed and intermediate width of the projection.
        parameters: names of the parameters in the gradient, in order.
        base_model_digest: sha256 over the files of the pretrained weights.
        model_digest: sha256 of the weights the gradients were taken at (theta*).
        tokenizer_digest: sha256 over the tokenizer's files.
        data_digest: digest of the prepared data.
        target: name of the target task.
        shard_rows: rows of a full shard.
        precision: what the model computed in.
        dtype: type of the stored numbers.
        versions: versions of the libraries that computed it.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    dimension: int
    blocks: int
    probes: int
    projection: dict[str, Any]
    parameters: list[str]
    base_model_digest: str
    model_digest: str
    tokenizer_digest: str
    data_digest: str
    target: str
    shard_rows: int
    precision: Literal["bf16", "float32"] = "float32"
    dtype: Literal["float32"] = "float32"
    versions: dict[str, str]


class ShardRecord(BaseModel):
    """One shard in the manifest: where it is, what it holds, and how to know it is whole."""

    model_config = ConfigDict(frozen=True)

    key: str
    task: str
    split: Literal["train", "val"]
    rows: int
    bytes: int
    sha256: str


class Shard(BaseModel):
    """The rows of one shard: example ids and arrays in the same order.

    Attributes:
        example_id: n ids.
        loss: [n], cross-entropy in nats.
        margin: [n], log p/(1-p) of the right answer.
        gradient: [n, d].
        probe: [n, R, d].
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    example_id: list[str]
    loss: FloatArray
    margin: FloatArray
    gradient: FloatArray
    probe: FloatArray


class _Sidecar(BaseModel):
    """What lies beside a shard: whose it is, how to know it is whole, and its rows' ids."""

    header: str
    shard: ShardRecord
    example_id: list[str]


class GradientStoreWriter:
    """Writes shards in any order, resumes what an earlier writer left, and seals the store."""

    def __init__(self, storage: Storage, header: StoreHeader) -> None:
        self.storage = storage
        self.header = header
        self._header_digest = digest_of(header.model_dump())
        self._present = set(storage.keys())

    def finished_shard(self, task: str, split: Literal["train", "val"], index: int) -> ShardRecord | None:
        """Return the record of a shard that an earlier run of the same extraction left whole, else None."""
        key = shard_key(task, split, index)
        if not {key, _sidecar(key)} <= self._present:
            return None
        try:
            sidecar = _Sidecar.model_validate_json(self.storage.read(_sidecar(key)))
        except ValidationError:
            return None
        if sidecar.header != self._header_digest or not _is_whole(sidecar.shard, self.storage.read(key)):
            return None
        return sidecar.shard

    def write_shard(self, task: str, split: Literal["train", "val"], index: int, shard: Shard) -> ShardRecord:
        """Store one shard and then its sidecar, and return its record.

        Raises:
            GradientStoreError: an array is not finite or has another shape than the header says.
        """
        rows = len(shard.example_id)
        shapes = {
            "loss": (rows,),
            "margin": (rows,),
            "gradient": (rows, self.header.dimension),
            "probe": (rows, self.header.probes, self.header.dimension),
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            name: np.ascontiguousarray(getattr(shard, name), np.float32) for name in shapes
        }
        for name, array in arrays.items():
            if array.shape != shapes[name]:
                raise GradientStoreError(
                    f"Task {task!r}, {split} split: {name} has shape {array.shape}, expected {shapes[name]}."
                )
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise GradientStoreError(
                    f"Task {task!r}, {split} split: {name} of row {shard.example_id[row]!r} is not finite; "
                    "the model's weights may have diverged in training (lower its learning rate)."
                )
        content = save_tensors(arrays)
        key = shard_key(task, split, index)
        record = ShardRecord(
            key=key,
            task=task,
            split=split,
            rows=rows,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        sidecar = _Sidecar(header=self._header_digest, shard=record, example_id=shard.example_id)
        self.storage.write(key, content)
        self.storage.write(_sidecar(key), canonical_json(sidecar.model_dump()).encode())
        return record

    def seal(self, records: list[ShardRecord]) -> str:
        """Write the manifest, which makes the store readable, and return its sha256."""
        manifest = {
            "format": FORMAT,
            **self.header.model_dump(),
            "shards": [record.model_dump() for record in records],
        }
        content = canonical_json(manifest).encode()
        self.storage.write(MANIFEST, content)
        return hashlib.sha256(content).hexdigest()


class GradientStore:
    """Reader of a finished store; every shard is checked against the manifest before it is used."""

    def __init__(self, uri: str, digest: str | None = None) -> None:
        """Open the store at `uri`; `digest` is the sha256 its manifest must have, where it is known.

        Raises:
            GradientStoreError: there is no manifest, it is not of format 1, or it is another one.
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
                    f"{where} has format {manifest.get('format')!r}: this version reads format {FORMAT}."
                )
            self.header = StoreHeader(**manifest)
            self.shards = [ShardRecord(**shard) for shard in manifest["shards"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GradientStoreError(
                f"{where} is not a gradient store's manifest: {_first_line(error)}."
            ) from error

    @property
    def train_rows(self) -> dict[str, int]:
        """Number of train rows of each task, in the store's order."""
        rows: dict[str, int] = {}
        for shard in self.shards:
            if shard.split == "train":
                rows[shard.task] = rows.get(shard.task, 0) + shard.rows
        return rows

    def check_origin(self, **expected: str) -> None:
        """Check digests of the header, for example `data_digest=...`.

        Raises:
            GradientStoreError: the store was made for other weights, tokenizer or data.
        """
        for field, digest in expected.items():
            found = getattr(self.header, field)
            if found != digest:
                what = field.removesuffix("_digest").replace("_", " ")
                raise GradientStoreError(
                    f"The gradient store at {self.storage.uri} was made for another {what}: "
                    f"its {field} is {found[:12]}, expected {digest[:12]}."
                )

    def read(self, task: str, split: Literal["train", "val"]) -> Iterator[Shard]:
        """Yield the shards of one task and split in order, each verified.

        Raises:
            GradientStoreError: a shard is missing, truncated or altered.
        """
        for record in self.shards:
            if (record.task, record.split) == (task, split):
                yield self._shard(record)

    def _shard(self, record: ShardRecord) -> Shard:
        where = join_uri(self.storage.uri, record.key)
        if not self.storage.exists(record.key):
            raise GradientStoreError(f"The gradient store's shard {where} is missing.")
        content = self.storage.read(record.key)
        if len(content) != record.bytes:
            raise GradientStoreError(
                f"The gradient store's shard {where} has {len(content)} bytes, expected {record.bytes}."
            )
        if not _is_whole(record, content):
            raise GradientStoreError(f"The gradient store's shard {where} was altered: its sha256 differs.")
        return Shard(example_id=self._example_ids(record), **load_tensors(content))

    def _example_ids(self, record: ShardRecord) -> list[str]:
        where = join_uri(self.storage.uri, _sidecar(record.key))
        if not self.storage.exists(_sidecar(record.key)):
            raise GradientStoreError(f"The gradient store's file {where} is missing.")
        try:
            sidecar = _Sidecar.model_validate_json(self.storage.read(_sidecar(record.key)))
        except ValidationError as error:
            raise GradientStoreError(f"The gradient store's file {where} is damaged.") from error
        if sidecar.shard != record or len(sidecar.example_id) != record.rows:
            raise GradientStoreError(f"The gradient store's file {where} belongs to another shard.")
        return sidecar.example_id


def shard_key(task: str, split: str, index: int) -> str:
    """Return the key of a task and split's shard number `index`."""
    return f"{task}/{split}/{index:05d}.safetensors"


def _sidecar(key: str) -> str:
    return key.removesuffix(".safetensors") + ".json"


def _is_whole(record: ShardRecord, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == record.sha256


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
