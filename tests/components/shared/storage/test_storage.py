"""What a storage promises, on the local disk and on a real S3 server alike."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.storage import s3
from gradsift.components.shared.storage.addresses import checked_key, is_remote, join_uri
from gradsift.components.shared.storage.local import LocalStorage, atomic_file, open_to_append
from gradsift.components.shared.storage.storage import Storage, open_storage

TRAVERSALS = [
    "",
    "/etc/passwd",
    "../secret",
    "a/../../secret",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "a\\..\\b",
    "a\0b",
]


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "root")
    address: str = request.getfixturevalue("s3_root")
    return address


@pytest.fixture
def storage(root: str) -> Storage:
    return open_storage(root)


def test_what_is_written_is_read_again(storage: Storage) -> None:
    storage.write("folder/file.bin", b"\x00\xff content")
    assert storage.read("folder/file.bin") == b"\x00\xff content"
    assert storage.exists("folder/file.bin")


def test_an_empty_file_is_a_file(storage: Storage) -> None:
    storage.write("empty", b"")
    assert storage.exists("empty")
    assert storage.read("empty") == b""


def test_a_key_keeps_its_letters(storage: Storage) -> None:
    key = "task-1/ä b+c%20=&.json"
    storage.write(key, b"x")
    assert storage.keys() == [key]
    assert storage.read(key) == b"x"


def test_write_replaces_the_whole_file(storage: Storage) -> None:
    storage.write("file", b"a long first content")
    storage.write("file", b"short")
    assert storage.read("file") == b"short"
    assert storage.keys() == ["file"]


def test_keys_are_sorted_and_chosen_by_prefix(storage: Storage) -> None:
    for key in ("b/2", "b/10", "a", "bc/1"):
        storage.write(key, b"x")
    assert storage.keys() == ["a", "b/10", "b/2", "bc/1"]
    assert storage.keys("b/") == ["b/10", "b/2"]
    assert storage.keys("b") == ["b/10", "b/2", "bc/1"]
    assert storage.keys("none") == []


def test_nothing_written_means_no_keys(storage: Storage) -> None:
    assert storage.keys() == []
    assert not storage.exists("file")


def test_a_folder_is_not_a_file(storage: Storage) -> None:
    storage.write("folder/file", b"x")
    assert not storage.exists("folder")


def test_keys_of_a_neighbour_with_the_same_beginning_are_not_seen(root: str) -> None:
    open_storage(root + "-more").write("other", b"x")
    open_storage(root).write("mine", b"x")
    assert open_storage(root).keys() == ["mine"]


def test_upload_and_download_copy_files(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 100_000)
    storage.upload(tmp_path / "source", "a/copy")
    storage.download("a/copy", tmp_path / "new folder" / "target")
    assert storage.read("a/copy") == b"x" * 100_000
    assert (tmp_path / "new folder" / "target").read_bytes() == b"x" * 100_000
    assert os.listdir(tmp_path / "new folder") == ["target"]  # noqa: PTH208


@pytest.mark.parametrize("key", TRAVERSALS)
def test_no_key_leaves_the_root(storage: Storage, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_text("secret")
    local = tmp_path / "file"
    local.write_text("x")
    for action in (
        lambda: storage.read(key),
        lambda: storage.write(key, b"x"),
        lambda: storage.create(key, b"x"),
        lambda: storage.delete(key),
        lambda: storage.exists(key),
        lambda: storage.upload(local, key),
        lambda: storage.download(key, local),
    ):
        with pytest.raises(InputError, match="expected a relative path without"):
            action()
    assert (tmp_path / "secret").read_text() == "secret"


@given(st.text(max_size=20))
def test_a_checked_key_stays_inside_any_root(key: str) -> None:
    try:
        checked_key(key)
    except InputError:
        return
    inside = os.path.normpath(f"/root/{key}")
    assert inside == f"/root/{key}"


def test_a_missing_file_is_named(storage: Storage, root: str, tmp_path: Path) -> None:
    expected = f"Cannot read {root}/a/missing: it does not exist."
    with pytest.raises(StorageError) as caught:
        storage.read("a/missing")
    assert str(caught.value) == expected
    with pytest.raises(StorageError) as caught:
        storage.download("a/missing", tmp_path / "target")
    assert str(caught.value) == expected
    assert not (tmp_path / "target").exists()


def test_a_missing_source_is_named(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        storage.upload(tmp_path / "missing", "key")
    assert str(caught.value) == f"Cannot read {tmp_path / 'missing'}: it does not exist."
    assert not storage.exists("key")


def test_a_download_that_fails_keeps_the_old_file(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(StorageError):
        storage.download("missing", target)
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "s3://",
        "s3:///prefix",
        "gs://bucket",
        "file:///tmp",
        "s3://bucket/../x",
        "s3://b/p?x=1",
        "s3://b/p#x",
        "s3://[",
        "http://[x",
        "s3://b:port/p",
        "s3://a bucket/p",
        "s3://" + 300 * "b",
    ],
)
def test_an_unusable_address_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"local path|relative path"):
        open_storage(uri)


def test_addresses_are_joined_and_told_apart() -> None:
    assert join_uri("s3://bucket/prefix/", "a", "b") == "s3://bucket/prefix/a/b"
    assert join_uri("/run", "a") == "/run/a"
    assert is_remote("s3://bucket")
    assert not is_remote("runs/s3")


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


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_file(path) as temporary:
        temporary.write_text("ne\ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("file", b"old")
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("ne")
        assert storage.read("file") == b"old"
        assert storage.keys() == ["file"]
        temporary.write_text("new")
    assert storage.read("file") == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_reader_keeps_the_old_file_that_it_has_open(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("file", b"old content")
    with (tmp_path / "file").open("rb") as reader:
        storage.write("file", b"new")
        assert reader.read() == b"old content"


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with (
        pytest.raises(StorageError, match=rf"^Cannot write {path}: it is no regular file\.$"),
        atomic_file(path),
    ):
        pytest.fail("nothing is to be written")
    assert path.is_fifo()


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(StorageError) as caught, atomic_file(path):
        Path("/dev/full").write_bytes(b"x")
    assert str(caught.value) == f"Cannot write {path}: the disk is full."
    assert list(tmp_path.iterdir()) == []


def test_a_write_cut_short_by_the_system_keeps_the_old_file(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from gradsift.components.shared.storage.local import LocalStorage
        storage = LocalStorage(Path(sys.argv[1]))
        storage.write("file", b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        storage.write("file", b"new" * 1000)
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False
    )
    assert f"StorageError: Cannot write {tmp_path}/file: file too large." in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_is_in_the_way_of_a_local_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    storage = LocalStorage(tmp_path)
    with pytest.raises(
        StorageError, match=f"Cannot write {tmp_path}/file/below: (not a directory|file exists)"
    ):
        storage.write("file/below", b"x")
    with pytest.raises(StorageError, match=f"Cannot write {tmp_path}/folder: is a directory"):
        storage.write("folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_that_the_system_refuses_is_reported(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for action in (storage.read, storage.exists):
        with pytest.raises(StorageError, match="file name too long"):
            action("a" * 300)


def test_what_is_no_regular_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    storage = LocalStorage(tmp_path)
    for name in ("fifo", "zero"):
        with pytest.raises(StorageError, match=f"^Cannot read {tmp_path}/{name}: it is no regular file"):
            storage.read(name)
    with pytest.raises(StorageError, match=f"^Cannot write {tmp_path}/fifo: no such device or address"):
        open_to_append(tmp_path / "fifo")


def test_a_file_is_appended_to_in_a_folder_that_is_made(tmp_path: Path) -> None:
    for _ in range(2):
        with open_to_append(tmp_path / "folder" / "file") as file:
            file.write(b"x")
    assert (tmp_path / "folder" / "file").read_bytes() == b"xx"


@pytest.mark.parametrize("goal", [".", "/", "a/" * 1500 + "a"])
def test_a_path_that_can_be_no_file_is_refused(
    goal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"^Cannot write "), atomic_file(Path(goal)):
        pass


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    program = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from gradsift.components.shared.storage.local import LocalStorage
        root = Path(sys.argv[1])
        (root / "closed").chmod(0)
        if os.geteuid() == 0:
            root.chmod(0o755)
            os.chdir(root)
            os.seteuid(65534)
            root = Path(".")
        assert LocalStorage(root).keys("open/") == []
        LocalStorage(root).keys()
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False
    )
    (tmp_path / "closed").chmod(0o755)
    assert "StorageError: Cannot list" in result.stderr
    assert "closed: permission denied." in result.stderr
