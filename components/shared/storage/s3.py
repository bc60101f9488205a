"""Files by key under a prefix of an S3 bucket, on any server that speaks the protocol.

Two kinds of failures are repeated. A single request is tried a few times within seconds, by boto3. What fails all
these tries as the server is down or overloaded is repeated for as long as this process waits (see `outages`).
"""

import io
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from gradsift.components.shared.errors import NotFoundError, StorageError, StorageOutageError
from gradsift.components.shared.process.outages import outage_timeout, wait_out
from gradsift.components.shared.storage.addresses import checked_key, join_uri
from gradsift.components.shared.storage.local import atomic_file, exists_error, opened

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

# How often a request is made, and an answer read, until an error is reported; when a try is given up, in seconds
# to connect and without a byte; bytes of a part of a created object, which is put whole where it is smaller.
TRIES = 6
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0
PART = 32 * 2**20
MAX_WORDS = 300
"""Characters of what a server says that an error shows."""

# What S3 answers where an object is there already: in an earlier race, in one that still goes on, or to parts
# that an earlier try, whose answer was lost, has put together.
LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"}

OUTAGE_STATUSES = {429, 500, 502, 503, 504}
OUTAGE_CODES = {"RequestTimeout", "SlowDown"}
"""What S3 answers where it is down or overloaded; a full disk (507) is not that."""

NOT_IMPLEMENTED = 501
"""What a server may answer to a conditional write that does not know these."""

CHECKSUM_REFUSALS = {400, 411, NOT_IMPLEMENTED}
CHECKSUM_ADVICE = (
    "; if the server does not know the checksums that newer clients send, set "
    "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
)

MAX_CLOCK_SKEW_SECONDS = 300.0
"""Between this machine and the server: S3 refuses requests whose time is 15 minutes off, other servers fewer."""

T = TypeVar("T")


@cache
def _api_description() -> Any:
    """Return the reader of S3's API description, which keeps what it has read.

    Without it each client reads the description again, for 0.1 s.
    """
    from botocore.loaders import create_loader

    return create_loader(os.environ.get("AWS_DATA_PATH"))


UNREADABLE = (FileNotFoundError, IsADirectoryError, PermissionError, UnicodeDecodeError)
"""What botocore raises where a file that AWS's variables name, such as one of credentials, cannot be read."""


class S3Storage:
    """A prefix of an S3 bucket, reached through boto3's default credentials, region and endpoint.

    Attributes:
        waits: whether requests wait through an outage where this process does.
    """

    def __init__(self, bucket: str, prefix: str, waits: bool = True) -> None:
        self.waits = waits
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
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        session = botocore.session.get_session()
        session.register_component("data_loader", _api_description())
        # Tries are spaced exponentially, with jitter. The mode "standard" would also keep a budget of retries a
        # client, which a few hundred requests spend when many fail: the next failure would then be the last.
        config = Config(
            retries={"total_max_attempts": TRIES, "mode": "legacy"},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
        )
        try:
            return boto3.Session(botocore_session=session).client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"S3 cannot be used for {self.uri}: {error}.") from error

    def read(self, key: str) -> bytes:
        """Return the content of `key`, its length and checksum compared with what the server says they are.

        botocore tries a request again, but not an answer that breaks off while it is read.
        """
        from botocore.exceptions import BotoCoreError

        def read() -> bytes:
            for _ in _spaced_tries():
                answer = self.client.get_object(Bucket=self.bucket, Key=self._key(key))
                try:
                    content: bytes = answer["Body"].read()
                    return content
                except BotoCoreError as error:
                    broken = error
            raise broken

        return self._request("read", key, read)

    def write(self, key: str, content: bytes) -> None:  # noqa: D102
        self._request(
            "write",
            key,
            lambda: self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=content),
        )

    def create(self, key: str, content: bytes) -> None:
        """Put `content` at `key`, where nothing may be yet, or the same: what is there is never replaced.

        A server that knows conditional writes (If-None-Match) keeps this in a race, too; on one that ignores or
        refuses them, only what was there before is safe, and the loser of a race finds other content.

        Raises:
            AlreadyExistsError: something else is at `key`.
            StorageError: the server is out of reach.
        """
        if not self.exists(key) and self._put_where_nothing_is(key, content):
            return
        if self.read(key) != content:
            raise exists_error(join_uri(self.uri, key))

    def _put_where_nothing_is(self, key: str, content: bytes) -> bool:
        from boto3.s3.transfer import TransferConfig
        from botocore.exceptions import ClientError

        config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)

        def put() -> bool:
            try:
                self._creating_client.upload_fileobj(
                    io.BytesIO(content), self.bucket, self._key(key), Config=config
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in LOST_RACE:
                    return False
                if _status(error) != NOT_IMPLEMENTED:
                    raise
                self.client.upload_fileobj(io.BytesIO(content), self.bucket, self._key(key), Config=config)
                return False  # `create` compares what is there now
            return True

        return self._request("write", key, put)

    def delete(self, key: str) -> None:  # noqa: D102
        self._request(
            "delete", key, lambda: self.client.delete_object(Bucket=self.bucket, Key=self._key(key))
        )

    def exists(self, key: str) -> bool:  # noqa: D102
        from botocore.exceptions import ClientError

        def head() -> bool:
            try:
                self.client.head_object(Bucket=self.bucket, Key=self._key(key))
            except ClientError as error:
                if _status(error) == 404:
                    return False
                raise
            return True

        return self._request("read", key, head)

    def keys(self, prefix: str = "") -> list[str]:  # noqa: D102
        root = f"{self.prefix}/" if self.prefix else ""

        def list_keys() -> list[str]:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=root + prefix
            )
            found = (item["Key"] for page in pages for item in page.get("Contents", []))
            return sorted(key.removeprefix(root) for key in found)

        return self._request("list", prefix, list_keys)

    def upload(self, path: Path, key: str) -> None:  # noqa: D102
        def put() -> None:
            with opened(path) as file:
                self.client.upload_fileobj(file, self.bucket, self._key(key))

        self._request("write", key, put)

    def download(self, key: str, path: Path) -> None:  # noqa: D102
        from botocore.exceptions import FlexibleChecksumError

        def get() -> None:
            for _ in _spaced_tries():
                try:
                    return self.client.download_file(self.bucket, self._key(key), str(temporary))
                except FlexibleChecksumError as error:
                    spoilt = error
            raise spoilt

        with atomic_file(path) as temporary:
            self._request("read", key, get)

    def _key(self, key: str) -> str:
        return str(PurePosixPath(self.prefix, checked_key(key)))

    def _request(self, action: str, key: str, request: Callable[[], T]) -> T:
        """Return what a request returns, which may be made several times.

        Raises:
            StorageError: it was refused, or the outage lasted too long.
        """

        def once() -> T:
            with self._errors(action, key):
                return request()

        return wait_out(StorageOutageError, once, outage_timeout() if self.waits else 0.0)

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        where = join_uri(self.uri, key)
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            status = _status(error)
            if status == 404 or code in {"NoSuchKey", "NoSuchBucket"}:
                what = "the bucket does not exist" if code == "NoSuchBucket" else "it does not exist"
                raise NotFoundError(f"Cannot {action} {where}: {what}.") from error
            if skew := _clock_skew(error):
                what = f"the server answered {code} ({status}), and {skew}: set the clock"
            elif status in {401, 403}:
                what = f"access was refused ({code}); check the AWS credentials and the bucket's policy"
            else:
                what = f"the server answered {_answer(error)}"
                if action == "write" and status in CHECKSUM_REFUSALS:
                    what += CHECKSUM_ADVICE
            passing = status in OUTAGE_STATUSES or code in OUTAGE_CODES
            kind = StorageOutageError if passing else StorageError
            raise kind(f"Cannot {action} {where}: {what}.") from error
        except NoCredentialsError as error:
            raise StorageError(f"Cannot {action} {where}: {error}.") from error
        except UNREADABLE as error:
            raise StorageError(
                f"Cannot {action} {where}: the AWS settings cannot be read ({error})."
            ) from error
        except (BotoCoreError, Boto3Error) as error:
            reason = " ".join(str(error).split())
            kind = StorageOutageError if _is_of_the_network(error) else StorageError
            raise kind(f"Cannot {action} {where}: {reason} ({_tries(TRIES)}).") from error


def _spaced_tries() -> Iterator[int]:
    """Count tries, and wait before each but the first."""
    for earlier in range(TRIES):
        if earlier:
            time.sleep(random.uniform(0, 2 ** (earlier - 1)))
        yield earlier


def _status(error: "ClientError") -> int | None:
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _answer(error: "ClientError") -> str:
    """Return a server's error code, its own words, and after how many tries it gave them."""
    answer = error.response.get("Error", {})
    words = " ".join(str(answer.get("Message", "")).split())[:MAX_WORDS]
    tries = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) + 1
    said = f": {words.rstrip('.')}" if words else ""
    return f"{answer.get('Code', 'unknown')} ({_status(error)}) after {_tries(tries)}{said}"


def _clock_skew(error: "ClientError") -> str:
    """Return words on a clock that is off where a server refuses access, else an empty text."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    skew = 0.0
    with suppress(TypeError, ValueError):
        skew = time.time() - parsedate_to_datetime(headers.get("date")).timestamp()
    if _status(error) not in {400, 401, 403} or abs(skew) < MAX_CLOCK_SKEW_SECONDS:
        return ""
    side = "ahead of" if skew > 0 else "behind"
    return f"this machine's clock is {abs(skew) / 60:.0f} minutes {side} the server's"


def _is_of_the_network(error: Exception) -> bool:
    """Say whether connections failed or broke; a wrong certificate or credential will not be right later."""
    from boto3.exceptions import RetriesExceededError
    from botocore.exceptions import ConnectionError, HTTPClientError, IncompleteReadError

    kinds = (ConnectionError, HTTPClientError, IncompleteReadError, RetriesExceededError)
    for_good = ("CERTIFICATE_VERIFY_FAILED", "Invalid header value")
    return isinstance(error, kinds) and not any(words in str(error) for words in for_good)


def _tries(number: int) -> str:
    return "1 try" if number == 1 else f"{number} tries"
