"""Files by key under one root: a local folder, or a prefix of an S3 bucket."""

import errno
import io
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from gradsift.components.shared.errors import ExistsError, InputError, NotFoundError, StorageError

# How often a request is made, and an answer read, until an error is reported; when a try is given up, in seconds
# to connect and without a byte; bytes of a part of a created object, which is put whole where it is smaller.
S3_TRIES = 6
S3_CONNECT_TIMEOUT, S3_READ_TIMEOUT = 10.0, 60.0
S3_PART = 32 * 2**20
PARTIAL = ".partial"

# What S3 answers where an object is there already: in an earlier race, in one that still goes on, or to parts
# that an earlier try, whose answer was lost, has put together.
LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"}


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
            ExistsError: something else is at `key`.
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


def open_storage(uri: str) -> Storage:
    """Return the storage at a local path or an `s3://bucket/prefix` address.

    Raises:
        InputError: the address has another scheme or no bucket.
    """
    scheme, bucket, prefix = _split(uri)
    if scheme == "s3":
        return S3Storage(bucket, prefix)
    return LocalStorage(Path(uri))


def join_uri(uri: str, *parts: str) -> str:
    """Append key parts to a local path or an `s3://` address."""
    return "/".join([uri.rstrip("/"), *parts])


def is_remote(uri: str) -> bool:
    """Say whether `uri` is an address in object storage rather than a local path."""
    return _split(uri)[0] == "s3"


def checked_key(key: str) -> str:
    """Return `key` unchanged if it stays inside its root.

    Raises:
        InputError: the key is empty, absolute, or has a part that is `.`, `..` or holds a backslash or NUL.
    """
    parts = key.split("/")
    if any(part in {"", ".", ".."} or "\\" in part or "\0" in part for part in parts):
        raise InputError(f"The path {key!r} is not allowed: expected a relative path without '..'.")
    return key


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
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def _file_beside(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
        os.close(descriptor)
    except OSError as error:
        raise local_error("write", path, error) from error
    temporary = Path(name)
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
            temporary.chmod(0o644)
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                if path.read_bytes() != content:
                    raise _exists_error(str(path)) from None
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


class S3Storage:
    """A prefix of an S3 bucket, reached through boto3's default credentials, region and endpoint."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")

    @cached_property
    def client(self) -> Any:
        """The boto3 client, made at first use."""
        return self._connect()

    @cached_property
    def _creating_client(self) -> Any:
        """A client whose uploads replace nothing, whether they go in one piece or in parts."""
        client = self._connect()
        for operation in ("PutObject", "CompleteMultipartUpload"):
            client.meta.events.register(
                f"provide-client-params.s3.{operation}", lambda params, **_: {**params, "IfNoneMatch": "*"}
            )
        return client

    def _connect(self) -> Any:
        """Return a new client, in a session of its own as boto3's is not thread-safe."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        # Tries are spaced exponentially, with jitter. The mode "standard" would also keep a budget of retries a
        # client, which a few hundred requests spend when many fail: the next failure would then be the last.
        config = Config(
            retries={"total_max_attempts": S3_TRIES, "mode": "legacy"},
            connect_timeout=S3_CONNECT_TIMEOUT,
            read_timeout=S3_READ_TIMEOUT,
        )
        try:
            return boto3.Session().client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"S3 cannot be used for {self.uri}: {error}.") from error

    def read(self, key: str) -> bytes:
        """Return the content of `key`, its length and checksum compared with what the server says they are.

        botocore tries a request again, but not an answer that breaks off while it is read.
        """
        from botocore.exceptions import BotoCoreError

        with self._errors("read", key):
            for earlier in range(S3_TRIES):
                if earlier:
                    time.sleep(random.uniform(0, 2 ** (earlier - 1)))
                answer = self.client.get_object(Bucket=self.bucket, Key=self._key(key))
                try:
                    content: bytes = answer["Body"].read()
                    return content
                except BotoCoreError as error:
                    broken = error
            raise broken

    def write(self, key: str, content: bytes) -> None:  # noqa: D102
        with self._errors("write", key):
            self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=content)

    def create(self, key: str, content: bytes) -> None:
        """Put `content` at `key`, where nothing may be yet, or the same: what is there is never replaced.

        A server that knows conditional writes (If-None-Match) keeps this in a race, too; on another one, only
        what was there before is safe.

        Raises:
            ExistsError: something else is at `key`.
            StorageError: the server is out of reach.
        """
        if not self.exists(key) and self._put_where_nothing_is(key, content):
            return
        if self.read(key) != content:
            raise _exists_error(join_uri(self.uri, key))

    def _put_where_nothing_is(self, key: str, content: bytes) -> bool:
        from boto3.s3.transfer import TransferConfig
        from botocore.exceptions import ClientError

        config = TransferConfig(multipart_threshold=S3_PART, multipart_chunksize=S3_PART, max_concurrency=4)
        with self._errors("write", key):
            try:
                self._creating_client.upload_fileobj(
                    io.BytesIO(content), self.bucket, self._key(key), Config=config
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in LOST_RACE:
                    return False
                raise
        return True

    def delete(self, key: str) -> None:  # noqa: D102
        with self._errors("delete", key):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def exists(self, key: str) -> bool:  # noqa: D102
        from botocore.exceptions import ClientError

        with self._errors("read", key):
            try:
                self.client.head_object(Bucket=self.bucket, Key=self._key(key))
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                    return False
                raise
            return True

    def keys(self, prefix: str = "") -> list[str]:  # noqa: D102
        root = f"{self.prefix}/" if self.prefix else ""
        with self._errors("list", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=root + prefix
            )
            found = (item["Key"] for page in pages for item in page.get("Contents", []))
            return sorted(key.removeprefix(root) for key in found)

    def upload(self, path: Path, key: str) -> None:  # noqa: D102
        with _opened(path) as file, self._errors("write", key):
            self.client.upload_fileobj(file, self.bucket, self._key(key))

    def download(self, key: str, path: Path) -> None:  # noqa: D102
        with atomic_file(path) as temporary, self._errors("read", key):
            self.client.download_file(self.bucket, self._key(key), str(temporary))

    def _key(self, key: str) -> str:
        return str(PurePosixPath(self.prefix, checked_key(key)))

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        where = join_uri(self.uri, key)
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            metadata = error.response.get("ResponseMetadata", {})
            status = metadata.get("HTTPStatusCode")
            if status == 404 or code in {"NoSuchKey", "NoSuchBucket"}:
                what = "the bucket does not exist" if code == "NoSuchBucket" else "it does not exist"
                raise NotFoundError(f"Cannot {action} {where}: {what}.") from error
            if status in {401, 403}:
                what = f"access was refused ({code}); check the AWS credentials and the bucket's policy"
            else:
                tries = metadata.get("RetryAttempts", 0) + 1
                what = f"the server answered {code} ({status}) after {_tries(tries)}"
            raise StorageError(f"Cannot {action} {where}: {what}.") from error
        except NoCredentialsError as error:
            raise StorageError(f"Cannot {action} {where}: {error}.") from error
        except (BotoCoreError, Boto3Error) as error:
            reason = " ".join(str(error).split())
            raise StorageError(f"Cannot {action} {where}: {reason} ({_tries(S3_TRIES)}).") from error


def _copy(source: Path, path: Path) -> None:
    with _opened(source) as file, atomic_file(path) as temporary, temporary.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise local_error("read", path, error) from error


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise local_error("list", Path(error.filename), error) from error


def _tries(number: int) -> str:
    return "1 try" if number == 1 else f"{number} tries"


def _exists_error(where: str) -> ExistsError:
    return ExistsError(f"Cannot create {where}: something else is there already.")


def _split(uri: str) -> tuple[str, str, str]:
    if "://" not in uri:
        if not uri:
            raise InputError("An empty address was given: expected a local path or an s3:// address.")
        return "", "", uri
    parts = urlsplit(uri)
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise InputError(
            f"The address {uri!r} is not supported: expected a local path or s3://bucket/prefix, "
            "without '?' and '#'."
        )
    if prefix:
        checked_key(prefix)
    return "s3", parts.netloc, prefix


def local_error(action: str, path: Path, error: OSError) -> StorageError:
    """Return the error that tells the user why a local path cannot be read or written."""
    if error.errno == errno.ENOSPC:
        return StorageError(f"Cannot {action} {path}: the disk is full.")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"Cannot {action} {path}: it does not exist.")
    return StorageError(f"Cannot {action} {path}: {(error.strerror or str(error)).lower()}.")
