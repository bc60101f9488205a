"""A step waits for S3 through an outage that outlasts the client's own tries, and for nothing else."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doubles.fake_clock import Clock
from doubles.faulty_proxy import FaultyProxy, faulty_proxy

from gradsift.components.shared.errors import StorageError, StorageOutageError
from gradsift.components.shared.process import outages
from gradsift.components.shared.storage import s3
from gradsift.components.shared.storage.storage import Storage, open_storage
from gradsift.components.shared.tracking import tracking
from gradsift.components.shared.tracking.step_run import run_step
from gradsift.components.shared.tracking.tracking import track_step

OPERATIONS: dict[str, Callable[[Storage, Path], Any]] = {
    "read": lambda storage, path: storage.read("file"),
    "write": lambda storage, path: storage.write("file", b"content"),
    "create": lambda storage, path: storage.create("other", b"content"),
    "delete": lambda storage, path: storage.delete("file"),
    "exists": lambda storage, path: storage.exists("file"),
    "list": lambda storage, path: storage.keys(),
    "upload": lambda storage, path: storage.upload(path, "file"),
    "download": lambda storage, path: storage.download("file", path.with_name("copy")),
}


@pytest.fixture
def proxy(
    s3_root: str, quick_tries: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FaultyProxy]:
    """A proxy before S3, for a step: a request is tried twice, and an outage waited out for a minute."""
    monkeypatch.setattr(s3, "TRIES", 2)
    monkeypatch.setattr(outages, "MAX_DELAY_SECONDS", 0.01)
    monkeypatch.setenv(outages.VARIABLE, "60")
    open_storage(s3_root).write("file", b"content")
    (tmp_path / "path").write_bytes(b"content")
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_survives_an_outage(
    proxy: FaultyProxy, s3_root: str, tmp_path: Path, name: str
) -> None:
    proxy.script = [*["503"] * 3, *["429"] * 3, *["reset before"] * 3]
    OPERATIONS[name](open_storage(s3_root), tmp_path / "path")
    assert proxy.counts.pop("all") > 9
    assert proxy.counts == {"503": 3, "429": 3, "reset before": 3}
    if name == "download":
        assert (tmp_path / "copy").read_bytes() == b"content"
    if name in {"upload", "create"}:
        assert open_storage(s3_root).read("other" if name == "create" else "file") == b"content"


def test_refusals_and_a_full_disk_are_not_waited_for(proxy: FaultyProxy, s3_root: str) -> None:
    storage = open_storage(s3_root)
    for number, status in enumerate(["400", "401", "403", "404", "507"], start=1):
        proxy.script = [status]
        with pytest.raises(StorageError, match=rf"^Cannot write {s3_root}/file: ") as caught:
            storage.write("file", b"x")
        assert not isinstance(caught.value, StorageOutageError)
        assert proxy.counts["all"] == number


def test_an_outage_is_logged_and_ends_with_a_sentence(
    s3_root: str, quick_tries: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages, "_logged_at", {})
    monkeypatch.setattr(outages, "MAX_DELAY_SECONDS", 0.01)
    monkeypatch.setenv(outages.VARIABLE, "0.5")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(StorageOutageError, match=f"Cannot read {s3_root}/file: Could not connect"):
        open_storage(s3_root).read("file")
    [message] = caplog.messages
    assert message.startswith(f"Cannot read {s3_root}/file: Could not connect")


def test_who_does_not_wait_fails_after_the_clients_tries(proxy: FaultyProxy, s3_root: str) -> None:
    proxy.script = ["503"] * 10
    with pytest.raises(StorageOutageError):
        open_storage(s3_root, waits=False).read("file")
    assert proxy.counts["all"] == 2


def test_a_step_makes_its_process_wait(
    proxy: FaultyProxy, s3_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(outages.VARIABLE)

    def work(tracker: Any) -> Any:
        proxy.script = ["503"] * 7
        raise KeyError(open_storage(s3_root).read("file").decode())

    with pytest.raises(KeyError, match="content"):
        run_step("some_step", {"output_uri": str(tmp_path / "root")}, {}, work, None)
    assert proxy.counts["503"] == 7


def test_a_step_goes_on_while_its_log_cannot_be_uploaded_and_waits_for_it_at_the_end(
    proxy: FaultyProxy, s3_root: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "SEND_EVERY_SECONDS", 0.0)
    with track_step("train", s3_root, {}) as tracker:
        proxy.script = ["503"] * 7
        tracker.metrics({"loss": 1.0})
        assert proxy.counts["503"] == 2
        assert "was not recorded or not uploaded yet" in caplog.text
        monkeypatch.setattr(tracking, "SEND_EVERY_SECONDS", 60.0)
    assert proxy.counts["503"] == 7
    assert b'"end"' in open_storage(s3_root).read("tracking/local/train.jsonl")


def test_a_log_that_cannot_be_uploaded_is_tried_again_a_minute_later(
    proxy: FaultyProxy, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=clock.monotonic, time=time.time))
    with suppress(KeyError), track_step("train", s3_root, {}) as tracker:
        proxy.script = ["503"] * 20
        tried = []
        for seconds in (0, 60, 0, 60):
            clock.sleep(seconds)
            tracker.metrics({"loss": 1.0})
            tried.append(proxy.counts["503"])
        assert tried == [0, 2, 2, 4]
        raise KeyError("broken")


def test_a_step_that_failed_does_not_wait_to_upload_its_log(proxy: FaultyProxy, s3_root: str) -> None:
    with suppress(KeyError), track_step("train", s3_root, {}):
        proxy.script = ["503"] * 7
        raise KeyError("broken")
    assert proxy.counts["503"] == 2
