"""Files by key below a folder of the local file system, and how a local file is written whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise StorageError(f"Cannot write {path}: it is no regular file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # unlike those of `tempfile`, with the rights that the umask gives
    except OSError as error:
        raise local_error("write", path, error) from error
    try:
        yield temporary
    except OSError as error:
        raise local_error("write", path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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
            return self._path(key).read_bytes()
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
        names = (
            (Path(folder) / name).relative_to(self.root).as_posix()
            for folder, _, names in os.walk(self.root, onerror=_refuse_unreadable)
            for name in names
            if not name.endswith(PARTIAL)
        )
        return sorted(name for name in names if name.startswith(prefix))

    def upload(self, path: Path, key: str) -> None:  # noqa: D102
        _copy(path, self._path(key))

    def download(self, key: str, path: Path) -> None:  # noqa: D102
        _copy(self._path(key), path)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)


def _copy(source: Path, path: Path) -> None:
    with opened(source) as file, atomic_file(path) as temporary, temporary.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def opened(path: Path) -> BinaryIO:
    """Return a local file, open for reading; raises StorageError where it cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise local_error("read", path, error) from error


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
