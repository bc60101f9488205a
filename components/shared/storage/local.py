"""Files by key below a folder of the local file system, and how a local file is written whole or not at all."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from gradsift.components.shared.errors import AlreadyExistsError, NotFoundError, StorageError
from gradsift.components.shared.storage.addresses import checked_key

PARTIAL = ".partial"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there when the block ends without an error.

    The temporary name ends in `.partial`: only a killed process leaves such a file.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with _file_beside(path) as temporary:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def _file_beside(path: Path) -> Iterator[Path]:
    if not path.name:
        raise StorageError(f"Cannot write {path}: is a directory.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise StorageError(f"Cannot write {path}: it is no regular file.")
        _make_folder_of(path)
        temporary.touch(exist_ok=False)  # unlike those of `tempfile`, with the rights that the umask gives
    except OSError as error:
        raise local_error("write", path, error) from error
    try:
        yield temporary
    except OSError as error:
        raise local_error("write", path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def open_to_append(path: Path) -> BinaryIO:
    """Return a file, open to write at its end and without a buffer; it is made, with its folders, if needed.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        _make_folder_of(path)
        # A FIFO that nobody reads is refused, instead of being waited for.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise local_error("write", path, error) from error
    return os.fdopen(descriptor, "ab", buffering=0)


def _make_folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except RecursionError:
        raise StorageError(f"Cannot write {path}: it lies in too many folders.") from None


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalStorage:
    """A folder of the local file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    def read(self, key: str) -> bytes:  # noqa: D102 (documented in Storage)
        try:
            with opened(self._path(key)) as file:
                return file.read()
        except OSError as error:
            raise local_error("read", self._path(key), error) from error

    def write(self, key: str, content: bytes) -> None:  # noqa: D102
        with atomic_file(self._path(key)) as temporary:
            temporary.write_bytes(content)

    def create(self, key: str, content: bytes) -> None:  # noqa: D102
        path = self._path(key)
        with _file_beside(path) as temporary:
            temporary.write_bytes(content)
            _sync(temporary)
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                if path.read_bytes() != content:
                    raise exists_error(str(path)) from None
            _sync(path.parent)

    def delete(self, key: str) -> None:  # noqa: D102
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise local_error("delete", self._path(key), error) from error

    def exists(self, key: str) -> bool:  # noqa: D102
        try:
            return self._path(key).is_file()
        except OSError as error:
            raise local_error("read", self._path(key), error) from error

    def keys(self, prefix: str = "") -> list[str]:  # noqa: D102
        found = []
        for folder, folders, files in os.walk(self.root, onerror=_refuse_unreadable):
            place = Path(folder).relative_to(self.root)
            below = [f"{(place / name).as_posix()}/" for name in folders]
            folders[:] = [
                name
                for name, key in zip(folders, below, strict=True)
                if key.startswith(prefix) or prefix.startswith(key)
            ]
            keys = ((place / name).as_posix() for name in files if not name.endswith(PARTIAL))
            found += [key for key in keys if key.startswith(prefix)]
        return sorted(found)

    def upload(self, path: Path, key: str) -> None:  # noqa: D102
        _copy(path, self._path(key))

    def download(self, key: str, path: Path) -> None:  # noqa: D102
        _copy(self._path(key), path)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)


def _copy(source: Path, path: Path) -> None:
    with opened(source) as file, atomic_file(path) as temporary, temporary.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def opened(path: Path) -> BufferedReader:
    """Return a local file, open for reading.

    Raises:
        StorageError: it cannot be read, or is no regular file.
    """
    try:
        # A FIFO without a writer is opened at once, to be refused, instead of being waited for.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise local_error("read", path, error) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise StorageError(f"Cannot read {path}: it is no regular file.")
    return file


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise local_error("list", Path(error.filename), error) from error


def exists_error(where: str) -> AlreadyExistsError:
    """Return the error that says that nothing is replaced."""
    return AlreadyExistsError(f"Cannot create {where}: something else is there already.")


def local_error(action: str, path: Path, error: OSError) -> StorageError:
    """Return the error that tells the user why a local path cannot be read or written."""
    if error.errno == errno.ENOSPC:
        return StorageError(f"Cannot {action} {path}: the disk is full.")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"Cannot {action} {path}: it does not exist.")
    return StorageError(f"Cannot {action} {path}: {(error.strerror or str(error)).lower()}.")
