"""A writer that is killed at random moments and called again ends with the bytes of an undisturbed one."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.storage.storage import open_storage

SHARDS, KILLS = 16, 8

WRITER = """
import json, os, random, signal, sys, time
import boto3
from gradsift.components.shared.gradient_store.gradient_store import GradientStoreWriter
from gradsift.components.shared.storage.storage import open_storage
sys.path.insert(0, sys.argv[1])
from synthetic_store import random_shard, store_header

uri, shards, kills = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
header = store_header(dtype="float16", dimension=400, shard_rows=64)
read_end, write_end = os.pipe()

def write_store():
    with GradientStoreWriter(open_storage(uri), header) as writer:
        records = []
        for index in range(shards):
            record = writer.finished_shard("target", "train", index)
            if record is None:
                time.sleep(0.005)
                record = writer.write_shard("target", "train", index, random_shard(64, header, index))
                os.write(write_end, bytes([index]))
            records.append(record)
        writer.seal(records)

generator = random.Random(0)
written = []
killed = 0
undisturbed = 0.0
while True:
    child = os.fork()
    if child == 0:
        write_store()
        os._exit(0)
    start = time.monotonic()
    if killed < kills and undisturbed:
        time.sleep(generator.uniform(0, undisturbed))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    undisturbed = undisturbed or time.monotonic() - start
    os.write(write_end, bytes([255]))
    written.append([])
    while (index := os.read(read_end, 1)[0]) != 255:
        written[-1].append(index)
    if status == signal.SIGKILL:
        killed += 1
    else:
        assert status == 0
        if killed == kills:
            break
        storage = open_storage(uri)
        for key in storage.keys():
            storage.delete(key)
        written.append(None)
print(json.dumps(written))
"""


@pytest.mark.parametrize("root", ["tmp_path", "s3_root"])
def test_killed_at_random_moments_a_writer_continues(
    request: pytest.FixtureRequest, tmp_path: Path, root: str
) -> None:
    """Of the shards whose record `write_shard` has returned, a kill costs one at most."""
    uri = f"{request.getfixturevalue(root)}/store"
    undisturbed = str(tmp_path / "undisturbed")
    tests = str(Path(__file__).parents[3])

    def write(to: str, kills: int) -> list[list[int] | None]:
        command = [sys.executable, "-c", WRITER, tests, to, str(SHARDS), str(kills)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
        assert result.returncode == 0, result.stderr
        calls: list[list[int] | None] = json.loads(result.stdout)
        return calls

    write(undisturbed, 0)
    calls = write(uri, KILLS)
    assert len([call for call in calls if call is not None]) > KILLS
    repeated = [
        len({*before} & {*after})
        for before, after in pairwise(calls)
        if before is not None and after is not None
    ]
    assert max(repeated) <= 1
    expected, found = open_storage(undisturbed), open_storage(uri)
    assert found.keys() == expected.keys()
    assert all(found.read(key) == expected.read(key) for key in expected.keys())  # noqa: SIM118
    assert [record for record, damage in GradientStore(uri).damage() if damage] == []
