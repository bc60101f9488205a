"""Files by key under one root: a local folder, or a prefix of an S3 bucket."""

from pathlib import Path
from typing import Protocol

from gradsift.components.shared.storage.addresses import split_uri
from gradsift.components.shared.storage.local import LocalStorage
from gradsift.components.shared.storage.s3 import S3Storage


class Storage(Protocol):
    """Reads and writes whole files by key; a key is a relative path with forward slashes."""

    uri: str

    def read(self, key: str) -> bytes:
        """Return the content of `key`; raises StorageError where it is missing or out of reach."""

    def write(self, key: str, content: bytes) -> None:
        """Put `content` at `key`, replacing what is there; readers see the old or the new, never a part."""

    def create(self, key: str, content: bytes) -> None:
        """Put `content` at `key`, where nothing may be yet, or the same: what is there is never replaced.

        Raises:
            AlreadyExistsError: something else is at `key`.
            StorageError: the storage is out of reach.
        """

    def delete(self, key: str) -> None:
        """Remove `key`; it may be gone already."""

    def exists(self, key: str) -> bool:
        """Say whether there is a file at `key`."""

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted."""

    def upload(self, path: Path, key: str) -> None:
        """Copy the local file `path` to `key`."""

    def download(self, key: str, path: Path) -> None:
        """Copy `key` to the local file `path`, whole or not at all."""


def open_storage(uri: str, waits: bool = True) -> Storage:
    """Return the storage at a local path or an `s3://bucket/prefix` address.

    Args:
        uri: where it is.
        waits: whether requests wait through an outage where this process does (see `outages`).

    Raises:
        InputError: the address has another scheme or no bucket.
    """
    scheme, bucket, prefix = split_uri(uri)
    if scheme == "s3":
        return S3Storage(bucket, prefix, waits)
    return LocalStorage(Path(uri))


def delete_below(storage: Storage, prefix: str) -> None:
    """Delete every key that starts with `prefix`."""
    for key in storage.keys(prefix):
        storage.delete(key)
