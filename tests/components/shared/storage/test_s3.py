"""What is S3's own: buckets, pages of keys, credentials, and servers that are not there."""

import socket
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from gradsift.components.shared.errors import StorageError
from gradsift.components.shared.storage import s3
from gradsift.components.shared.storage.storage import open_storage


def test_a_bucket_itself_can_be_the_root(s3_root: str) -> None:
    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    open_storage(s3_root).write("file", b"x")
    assert open_storage(f"s3://{bucket}").read(f"{prefix}/file") == b"x"
    assert f"{prefix}/file" in open_storage(f"s3://{bucket}/").keys()  # noqa: SIM118


def test_more_keys_than_a_page_are_all_listed(s3_root: str) -> None:
    storage = s3.S3Storage(*s3_root.removeprefix("s3://").split("/", 1))
    for index in range(5):
        storage.write(f"{index}", b"x")
    pages = storage.client.get_paginator("list_objects_v2")
    storage.client.get_paginator = lambda name: _SmallPages(pages)
    assert storage.keys() == ["0", "1", "2", "3", "4"]


class _SmallPages:
    """Asks the real server for two keys a page."""

    def __init__(self, pages: object) -> None:
        self.pages = pages

    def paginate(self, **arguments: str) -> object:
        return self.pages.paginate(PaginationConfig={"PageSize": 2}, **arguments)  # type: ignore[attr-defined]


def test_a_missing_bucket_is_named(s3_root: str) -> None:
    with pytest.raises(
        StorageError, match=r"^Cannot write s3://no-such-bucket/file: the bucket does not exist\.$"
    ):
        open_storage("s3://no-such-bucket").write("file", b"x")


def test_refused_credentials_are_reported(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    storage = open_storage(s3_root)
    for action in (lambda: storage.read("file"), lambda: storage.exists("file"), lambda: storage.keys()):
        with pytest.raises(
            StorageError, match=r"access was refused \(.+\); check the AWS credentials"
        ) as caught:
            action()
        assert "x" * 40 not in str(caught.value)


def test_missing_credentials_are_reported(
    s3_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="Unable to locate credentials"):
        open_storage(s3_root).read("file")


def test_a_file_of_credentials_that_cannot_be_read_is_named(
    s3_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(
        StorageError, match=f"Cannot read {s3_root}/file: the AWS settings cannot .*{tmp_path}"
    ):
        open_storage(s3_root).read("file")


def test_an_unreachable_server_is_named(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setattr(s3, "TRIES", 1)
    with pytest.raises(StorageError, match=f"Cannot read {s3_root}/file: Could not connect .*{endpoint}"):
        open_storage(s3_root).read("file")


def test_unusable_client_settings_are_reported(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no address")
    with pytest.raises(StorageError, match=f"S3 cannot be used for {s3_root}: Invalid endpoint"):
        open_storage(s3_root).read("file")


def test_only_the_first_client_reads_the_description_of_the_api(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_storage(s3_root).keys()
    read: list[str] = []
    load = JSONFileLoader.load_file

    def loads(self: JSONFileLoader, path: str) -> Any:
        content = load(self, path)
        if content is not None:
            read.append(path)
        return content

    monkeypatch.setattr(JSONFileLoader, "load_file", loads)
    open_storage(s3_root).keys()
    assert read == []
