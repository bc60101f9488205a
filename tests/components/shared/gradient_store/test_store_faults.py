"""A store written and read through a network that fails: it ends right, or with one sentence after stated tries."""

import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from doubles.faulty_proxy import FAULTS, faulty_proxy
from synthetic_store import random_shard, same_rows, store_header, write_or_resume

from gradsift.components.shared.errors import StorageError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.storage.s3 import TRIES
from gradsift.components.shared.storage.storage import open_storage

SHARDS, ROWS, SEEDS = 24, 4, 4


def _contents(uri: str) -> dict[str, bytes]:
    storage = open_storage(uri)
    return {key: storage.read(key) for key in storage.keys()}  # noqa: SIM118


@pytest.mark.slow
def test_a_third_of_the_requests_may_fail(
    s3_root: str, quick_tries: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every run ends with the bytes of an undisturbed store, or stops in one sentence, and most end."""
    direct = open_storage(s3_root).client.meta.endpoint_url  # type: ignore[attr-defined]
    write_or_resume(str(tmp_path / "undisturbed"), store_header(), SHARDS)
    expected = _contents(str(tmp_path / "undisturbed"))
    counts: Counter[str] = Counter()
    stops = []
    for seed in range(SEEDS):
        uri = f"{s3_root}/{seed}"
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / str(seed)))
        Path(tempfile.tempdir or "").mkdir()
        with faulty_proxy(direct, share=0.3, seed=seed, stall_seconds=0.5) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            try:
                write_or_resume(uri, store_header(), SHARDS)
                found = list(GradientStore(uri).read("target", "train"))
            except StorageError as error:
                stops.append(str(error))
            else:
                assert len(found) == SHARDS
                for index, shard in enumerate(found):
                    assert same_rows(shard, random_shard(ROWS, store_header(), index))
                monkeypatch.setenv("AWS_ENDPOINT_URL", direct)
                assert _contents(uri) == expected
        counts += proxy.counts
    assert len(stops) < SEEDS / 2
    for stop in stops:
        assert re.search(rf"^Cannot (read|write|list) {s3_root}\S*: .*\b{TRIES} tries", stop)
    assert set(counts) == {"all", *FAULTS}
    assert 0.2 < 1 - counts["all"] / counts.total() < 0.3, "a fault in 0.3 requests is 0.23 of both counted"


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_always_fails_is_reported_in_bounded_time(
    s3_root: str, quick_tries: None, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    direct = open_storage(s3_root).client.meta.endpoint_url  # type: ignore[attr-defined]
    write_or_resume(s3_root, store_header(), 1)
    with faulty_proxy(direct, share=1.0, seed=seed, stall_seconds=0.5) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        for work in (
            lambda: write_or_resume(s3_root, store_header(), 2),
            lambda: GradientStore(s3_root),
            lambda: open_storage(s3_root).create("file", b"x"),
        ):
            start = time.monotonic()
            with pytest.raises(StorageError, match=rf"^Cannot \w+ {s3_root}.*\b{TRIES} tries\b.*\.$"):
                work()
            assert time.monotonic() - start < 20
