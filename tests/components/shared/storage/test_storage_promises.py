"""Files are created once, even in a race, and S3 is asked again as often as stated, whatever fails."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from doubles.faulty_proxy import faulty_proxy

from gradsift.components.shared.errors import AlreadyExistsError, StorageError
from gradsift.components.shared.storage import s3
from gradsift.components.shared.storage.local import LocalStorage
from gradsift.components.shared.storage.storage import Storage, open_storage


@pytest.fixture(params=["local", "s3", "conditional_s3"])
def created(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A storage to create files in; the last one and the local disk decide races, too."""
    if request.param == "local":
        return open_storage(str(tmp_path / "root"))
    return open_storage(request.getfixturevalue(f"{request.param}_root"))


def test_what_is_created_is_never_replaced(created: Storage) -> None:
    created.create("folder/file", b"first")
    created.create("folder/file", b"first")
    with pytest.raises(AlreadyExistsError) as caught:
        created.create("folder/file", b"other")
    assert str(caught.value) == f"Cannot create {created.uri}/folder/file: something else is there already."
    assert created.read("folder/file") == b"first"
    assert created.keys() == ["folder/file"]


def test_a_deleted_file_is_gone_and_can_be_created_again(created: Storage) -> None:
    created.create("file", b"first")
    created.delete("file")
    created.delete("file")
    assert not created.exists("file")
    created.create("file", b"other")
    assert created.read("file") == b"other"


@pytest.mark.parametrize("created", ["local", "conditional_s3"], indirect=True)
def test_of_many_that_create_one_file_one_wins(created: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All have seen that there was nothing, and then write at the same time."""
    monkeypatch.setattr(created, "exists", lambda _: False)
    barrier = threading.Barrier(8)

    def create(index: int) -> bool:
        barrier.wait()
        try:
            created.create("file", b"%d" % index * 1000)
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert created.read("file") == b"%d" % won.index(True) * 1000


@pytest.mark.parametrize("created", ["conditional_s3"], indirect=True)
def test_parts_replace_nothing_and_leave_nothing(created: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    monkeypatch.setattr(created, "exists", lambda _: False)
    content = os.urandom(11 * 2**20)
    created.create("file", content)
    created.create("file", content)
    with pytest.raises(AlreadyExistsError):
        created.create("file", content[::-1])
    assert created.read("file") == content
    bucket = created.uri.split("/")[2]
    head = created.client.head_object(  # type: ignore[attr-defined]
        Bucket=bucket, Key=created.uri.split("/")[3] + "/file"
    )
    assert head["ETag"].endswith('-3"')
    assert "Uploads" not in created.client.list_multipart_uploads(Bucket=bucket)  # type: ignore[attr-defined]


def test_a_created_file_stays_as_it_was_put(tmp_path: Path) -> None:
    LocalStorage(tmp_path).create("file", b"x")
    state = (tmp_path / "file").stat()
    assert (state.st_mode & 0o777, state.st_nlink) == (0o644, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_whose_answer_was_lost_is_a_success(
    conditional_s3_root: str, quick_tries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        storage = open_storage(conditional_s3_root)
        proxy.script = [None, "reset after"]
        storage.create("file", b"content")
        assert proxy.counts["reset after"] == 1
        assert storage.read("file") == b"content"


def test_uploads_carry_checksums(conditional_s3_root: str) -> None:
    storage = s3.S3Storage(*conditional_s3_root.removeprefix("s3://").split("/", 1))
    storage.create("created", b"x")
    storage.write("written", b"x")
    for key in ("created", "written"):
        head = storage.client.head_object(
            Bucket=storage.bucket, Key=f"{storage.prefix}/{key}", ChecksumMode="ENABLED"
        )
        assert head["ChecksumCRC32"]


BODY_FAULTS = ["500", "503", "reset before", "reset after", "stall", "truncate", "alter"]


@pytest.mark.parametrize("fault", BODY_FAULTS)
def test_a_read_survives_all_tries_but_the_last(
    s3_root: str, quick_tries: None, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(s3, "TRIES", 3)
    open_storage(s3_root).write("file", b"content" * 1000)
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.script = [fault, fault]
        assert open_storage(s3_root).read("file") == b"content" * 1000
        assert proxy.counts == {fault: 2, "all": 3}


@pytest.mark.parametrize("fault", BODY_FAULTS)
def test_a_read_that_never_succeeds_ends_after_the_stated_tries(
    s3_root: str, quick_tries: None, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(s3, "TRIES", 3)
    open_storage(s3_root).write("file", b"content" * 1000)
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.script = [fault] * 10
        with pytest.raises(StorageError) as caught:
            open_storage(s3_root).read("file")
        assert proxy.counts == {fault: 3, "all": 3}
    message = str(caught.value)
    assert message.startswith(f"Cannot read {s3_root}/file: ")
    assert "3 tries" in message
    assert "\n" not in message
