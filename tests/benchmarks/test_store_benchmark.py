"""Reading a gradient store with every check, beside plainly reading the same files in the same run.

The store holds a million gradients of 400 numbers in float16, in shards of 8192 rows: 0.8 GB on the local disk.
"""

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from gradsift.components.shared.gradient_store.gradient_format import Shard, StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.storage.local import LocalStorage

ROWS, DIMENSION, SHARD_ROWS, ROUNDS = 1_000_000, 400, 8192, 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    header = StoreHeader(
        dimension=DIMENSION,
        blocks=4,
        probes=0,
        projection={"kind": "synthetic"},
        parameters=["weight"],
        base_model_digest="base",
        model_digest="theta",
        squared_step_norm=1.0,
        tokenizer_digest="tokenizer",
        data_digest="data",
        target="target",
        shard_rows=SHARD_ROWS,
        dtype="float16",
        versions={},
    )
    gradient = np.random.default_rng(0).normal(size=(SHARD_ROWS, DIMENSION)).astype(np.float32)
    with GradientStoreWriter(LocalStorage(folder), header) as writer:
        records = []
        for index, start in enumerate(range(0, ROWS, SHARD_ROWS)):
            rows = min(SHARD_ROWS, ROWS - start)
            shard = Shard(
                example_id=[f"row {start + row}" for row in range(rows)],
                loss=np.ones(rows, np.float32),
                margin=np.zeros(rows, np.float32),
                base_margin=np.zeros(rows, np.float32),
                gradient=np.roll(gradient, index, axis=1)[:rows],
                probe=np.zeros((rows, 0, DIMENSION), np.float32),
            )
            records.append(writer.write_shard("target", "train", index, shard))
        writer.seal(records)
    yield folder
    for path in folder.rglob("*.*"):
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_reading_with_checks_beside_plain_reading(
    benchmark: Any, capsys: pytest.CaptureFixture[str], store: Path, cache: str
) -> None:
    files = sorted(store.rglob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    reader = GradientStore(str(store))

    process = psutil.Process()
    plain_seconds: list[float] = []
    memory: list[int] = []

    def plain() -> None:
        buffer = bytearray(2**20)
        for path in files:
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    def prepare() -> None:
        for path in files:
            with path.open("rb") as file:
                if cache == "cold":
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def time_plain_reading() -> None:
        prepare()
        start = time.perf_counter()
        plain()
        plain_seconds.append(time.perf_counter() - start)
        prepare()

    def read() -> int:
        rows = 0
        for shard in reader.read("target", "train"):
            rows += len(shard.margin)
            memory.append(process.memory_info().rss)
        return rows

    plain()
    before = process.memory_info().rss
    rows = benchmark.pedantic(read, setup=time_plain_reading, rounds=ROUNDS)
    seconds, checked_seconds = statistics.median(plain_seconds), benchmark.stats.stats.median
    growth = max(memory) - before
    figures = {
        "plain_gigabytes_a_second": size / seconds / 1e9,
        "checked_gigabytes_a_second": size / checked_seconds / 1e9,
        "checked_of_plain": seconds / checked_seconds,
        "peak_memory_growth_megabytes": growth / 1e6,
    }
    benchmark.extra_info |= figures
    with capsys.disabled():
        print(f"\n{cache}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    assert rows == ROWS
    assert growth < size / 4
