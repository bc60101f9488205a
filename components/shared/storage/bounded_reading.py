"""Reads files that others wrote: regular files only, inside their root, and no larger than allowed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.addresses import checked_key, join_uri
from gradsift.components.shared.storage.local import LocalStorage, opened
from gradsift.components.shared.storage.storage import Storage


@contextmanager
def opened_file(storage: Storage, key: str, max_bytes: int) -> Iterator[BufferedReader]:
    """Open one file of a storage for reading; one in an object store is downloaded to the local disk first.

    Args:
        storage: where it is.
        key: its key.
        max_bytes: largest number of bytes that it may have.

    Raises:
        InputError: it is larger, or a link that leads out of the storage's folder.
        StorageError: it cannot be read, or is no regular file.
    """
    where = join_uri(storage.uri, key)
    if isinstance(storage, LocalStorage):
        path = storage.root / checked_key(key)
        if not path.resolve().is_relative_to(storage.root.resolve()):
            raise InputError(f"{where} is a link that leads out of {storage.uri}, expected a file inside it.")
        with _opened(path, where, max_bytes) as file:
            yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        storage.download(key, path)
        with _opened(path, where, max_bytes) as file:
            yield file


def read_file(storage: Storage, key: str, max_bytes: int) -> bytes:
    """Return the content of one file, which `opened_file` opens."""
    with opened_file(storage, key, max_bytes) as file:
        return file.read()


def read_local_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a local file, which may be a link.

    Raises:
        InputError: it is larger than `max_bytes`.
        StorageError: it cannot be read, or is no regular file.
    """
    with _opened(path, str(path), max_bytes) as file:
        return file.read()


@contextmanager
def _opened(path: Path, where: str, max_bytes: int) -> Iterator[BufferedReader]:
    try:
        file = opened(path)
    except ValueError:
        raise InputError(f"{where!r} cannot be the name of a file, expected valid Unicode.") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise InputError(f"{where} has {size:,} bytes, expected at most {max_bytes:,}.")
        yield file
