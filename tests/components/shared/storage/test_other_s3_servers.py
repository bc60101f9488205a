"""S3 servers that lack what AWS has, and machines that fall short: each works, or is called by its name."""

import os
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from time import time

import pytest
from doubles.faulty_proxy import FaultyProxy, faulty_proxy

from gradsift.components.preflight.checks import check_run_root
from gradsift.components.shared.artifacts.step_output import produce, read_file
from gradsift.components.shared.errors import AlreadyExistsError, StorageError, StorageOutageError
from gradsift.components.shared.storage import s3
from gradsift.components.shared.storage.storage import open_storage

CONDITION = "If-None-Match"
CHECKSUM = "x-amz-sdk-checksum-algorithm"
XML = "<Error><Code>{}</Code><Message>{}</Message></Error>"
NOT_IMPLEMENTED = (501, [], XML.format("NotImplemented", "A header implies what is not here.").encode())


@pytest.fixture
def proxy(s3_root: str, quick_tries: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setattr(s3, "TRIES", 2)
    monkeypatch.setattr(s3, "READ_TIMEOUT", 30.0)
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION", raising=False)
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def test_without_conditional_writes_a_file_is_created_and_not_replaced(
    proxy: FaultyProxy, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    proxy.refusals = {CONDITION: NOT_IMPLEMENTED}
    storage = open_storage(s3_root)
    for key, content in {"small": b"first", "in parts": bytes(6 * 2**20)}.items():
        storage.create(key, content)
        storage.create(key, content)
        assert storage.read(key) == content
        with pytest.raises(
            AlreadyExistsError, match=f"Cannot create {s3_root}/{key}: something else is there"
        ):
            storage.create(key, b"second")
        assert storage.read(key) == content


def test_the_loser_of_a_race_without_conditional_writes_is_told(
    proxy: FaultyProxy, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.refusals = {CONDITION: NOT_IMPLEMENTED}
    storage = open_storage(s3_root)
    monkeypatch.setattr(storage, "read", lambda key: b"of another process that came later")
    with pytest.raises(AlreadyExistsError):
        storage.create("file", b"mine")


@pytest.mark.parametrize("refusals", [{}, {CONDITION: NOT_IMPLEMENTED}])
def test_the_check_of_a_run_root_passes_where_a_run_does(
    proxy: FaultyProxy, s3_root: str, refusals: dict[str, tuple[int, list[tuple[str, str]], bytes]]
) -> None:
    proxy.refusals = refusals
    assert check_run_root(s3_root) == f"{s3_root} can be written, read and deleted from"
    assert open_storage(s3_root).keys() == []


def test_and_fails_where_files_cannot_be_uploaded_in_parts(proxy: FaultyProxy, s3_root: str) -> None:
    proxy.refused_queries = ("partNumber",)
    with pytest.raises(StorageError, match=f"Cannot write {s3_root}/doctor-"):
        check_run_root(s3_root)
    assert open_storage(s3_root).keys() == []


@pytest.mark.parametrize("status", [400, 411, 501])
def test_a_server_without_checksums_is_told_from_its_words_and_the_way_out_works(
    status: int, proxy: FaultyProxy, s3_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = XML.format("SomeCode", "The server's own\nwords.").encode()
    proxy.refusals = {CHECKSUM: (status, [], words)}
    for write in (
        lambda: open_storage(s3_root).write("file", b"x"),
        lambda: open_storage(s3_root).create("file", b"x"),
        lambda: open_storage(s3_root).upload(Path(__file__), "file"),
        lambda: check_run_root(s3_root),
    ):
        with pytest.raises(StorageError) as error:
            write()
        assert f"the server answered SomeCode ({status}) after 1 try: The server's own words; " in str(
            error.value
        )
        assert str(error.value).endswith("set AWS_REQUEST_CHECKSUM_CALCULATION=when_required.")
        assert not isinstance(error.value, StorageOutageError)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    check_run_root(s3_root)


@pytest.mark.parametrize(("minutes", "side"), [(-90, "ahead of"), (20, "behind")])
def test_a_wrong_clock_is_called_a_wrong_clock(
    minutes: int, side: str, proxy: FaultyProxy, s3_root: str
) -> None:
    answer = XML.format("RequestTimeTooSkewed", "The difference is too large.").encode()
    proxy.refusals = {
        "Authorization": (403, [("Date", formatdate(time() + 60 * minutes, usegmt=True))], answer)
    }
    clock = f"this machine's clock is {abs(minutes)} minutes {side} the server's: set the clock."
    with pytest.raises(StorageError, match=clock):
        open_storage(s3_root).write("file", b"x")
    with pytest.raises(StorageError, match=clock):
        open_storage(s3_root).exists("file")


def test_refused_credentials_are_no_wrong_clock(proxy: FaultyProxy, s3_root: str) -> None:
    answer = XML.format("AccessDenied", "No.").encode()
    proxy.refusals = {"Authorization": (403, [("Date", formatdate(usegmt=True))], answer)}
    with pytest.raises(StorageError, match=r"access was refused \(AccessDenied\); check the AWS credentials"):
        open_storage(s3_root).write("file", b"x")


@pytest.mark.parametrize("compared_by", ["botocore", "gradsift"])
def test_one_spoilt_download_is_tried_again(
    compared_by: str, proxy: FaultyProxy, s3_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if compared_by == "gradsift":
        monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = produce(
        s3_root, "data_preparation", {}, lambda folder: {"n": (folder / "a").write_bytes(b"content")}
    )
    proxy.script = [None, "alter"]  # the manifest; the file
    assert read_file(output, "a") == b"content"
    assert proxy.counts["alter"] == 1
    open_storage(output.uri).download("a", tmp_path / "copy")
    open_storage(output.uri).write("a", b"other 7")
    for path in tmp_path.rglob("a"):
        path.unlink()
    with pytest.raises(StorageError, match="is missing or altered"):
        read_file(output, "a")


def test_a_credential_that_is_no_header_is_not_waited_for(
    proxy: FaultyProxy, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "planted\n")
    with pytest.raises(StorageError) as error:
        open_storage(s3_root).read("file")
    assert not isinstance(error.value, StorageOutageError)
    assert "planted" not in str(error.value)
