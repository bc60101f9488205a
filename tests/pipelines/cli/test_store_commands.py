"""`gradsift store verify` and `gradsift store info`, on the local disk and in S3."""

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save
from synthetic_store import store_header, write_or_resume, write_store

from gradsift.components.shared.gradient_store.gradient_format import ShardRecord, Sidecar
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.storage.storage import open_storage
from gradsift.pipelines.cli import store_commands
from gradsift.pipelines.cli.command_line import main


@pytest.fixture(params=["tmp_path", "s3_root"])
def uri(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue(request.param)}/[store]"


def _run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Return the command line's exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["gradsift", "store", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_a_whole_store_is_said_to_be_whole_in_one_line(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(uri)
    size = sum(shard.bytes for shard in GradientStore(uri).shards)
    code, output, errors = _run(monkeypatch, capsys, "verify", uri)
    expected = f"The gradient store at {uri} is whole: 4 shards, 13 rows, {size:,} bytes.\n"
    assert (code, output, errors) == (0, expected, "")


def test_every_problem_is_listed(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole copies of shards in S3 that were downloaded before hide nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write_store(uri)
    list(GradientStore(uri).read("one", "train"))
    storage = open_storage(uri)
    first, second = "one/train/00000.safetensors", "one/train/00001.safetensors"
    size = len(storage.read(second))
    storage.write(first, storage.read(first)[:-1] + b"?")
    storage.write(second, storage.read(second)[:-1])
    storage.delete("target/train/00000.safetensors")
    storage.write("target/val/00000.json", storage.read("one/train/00000.json"))
    storage.write("other", b"x")
    code, output, errors = _run(monkeypatch, capsys, "verify", uri)
    assert code == 2
    assert output.splitlines() == [
        f"The gradient store's shard {uri}/{first} was altered: its sha256 differs.",
        f"The gradient store's shard {uri}/{second} has {size - 1} bytes, expected {size}.",
        f"The gradient store's shard {uri}/target/train/00000.safetensors is missing.",
        f"The gradient store's file {uri}/target/val/00000.json was altered, or belongs to another shard "
        "or manifest.",
        f"The file {uri}/other is not in the manifest.",
    ]
    assert errors == f"Error: The gradient store at {uri} is damaged: 5 problems listed above.\n"


def test_one_altered_byte_anywhere_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(str(tmp_path))
    generator = np.random.default_rng(0)
    for path in sorted(path for path in tmp_path.rglob("*.*")):
        content = path.read_bytes()
        for place in generator.integers(len(content), size=4):
            altered = bytearray(content)
            altered[place] ^= 1
            path.write_bytes(altered)
            code, _, errors = _run(monkeypatch, capsys, "verify", str(tmp_path))
            assert (code, errors[:7]) == (2, "Error: "), f"{path} at {place}"
        path.write_bytes(content)
    assert _run(monkeypatch, capsys, "verify", str(tmp_path))[0] == 0


@pytest.mark.parametrize("name", ["loss", "gradient_scale", "probe"])
def test_a_number_that_is_not_finite_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A store that holds such a number from the start, all digests right."""
    header = store_header(dtype="float16")
    (record,) = write_or_resume(str(tmp_path), header, 1)
    arrays = {key: array.copy() for key, array in load((tmp_path / record.key).read_bytes()).items()}
    arrays[name].flat[-1] = np.inf
    content = save(arrays)
    for path in tmp_path.rglob("*.*"):
        path.unlink()
    storage = open_storage(str(tmp_path))
    changed = ShardRecord(**{**record.model_dump(), "sha256": hashlib.sha256(content).hexdigest()})
    storage.create(record.key, content)
    storage.create("target/train/00000.json", Sidecar(header=header.digest, shard=changed).content)
    GradientStoreWriter(storage, header).seal([changed])
    code, output, _ = _run(monkeypatch, capsys, "verify", str(tmp_path))
    where = tmp_path / record.key
    assert code == 2
    assert output == f"The gradient store's shard {where}: {name.removesuffix('_scale')} is not finite.\n"


@pytest.mark.parametrize("command", ["verify", "info"])
def test_an_unfinished_store_says_how_many_shards_are_whole(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    write_store(uri)
    storage = open_storage(uri)
    storage.delete("manifest.json")
    storage.write("one/train/00000.safetensors", b"cut")
    storage.delete("one/train/00001.json")
    code, output, errors = _run(monkeypatch, capsys, command, uri)
    assert (code, output) == (2, "")
    assert errors == (
        f"Error: The gradient store at {uri} is unfinished: it has no manifest.json, and 2 whole shards; "
        "run the extraction again.\n"
    )


def test_no_store_is_said_to_be_none(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, errors = _run(monkeypatch, capsys, "verify", uri)
    assert (code, output) == (2, "")
    assert errors == f"Error: There is no gradient store at {uri}: expected a manifest.json.\n"


def test_info_shows_header_and_contents(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store_commands.console, "width", 120)
    digest = write_store(uri, dtype="float16")
    code, output, errors = _run(monkeypatch, capsys, "info", uri)
    facts = dict(line.strip().split(maxsplit=1) for line in output.splitlines() if " " in line.strip())
    assert (code, errors) == (0, "")
    assert (facts["digest"], facts["dimension"], facts["dtype"]) == (digest, "6", "float16")
    assert facts["projection"] == "kind fold, seed 1"
    assert facts["model"].split() == ["digest", "b" * 64]
    cells = [line.replace("│", " ").split() for line in output.splitlines() if "│" in line]
    sizes = {shard.key: shard.bytes for shard in GradientStore(uri).shards}
    both = sizes["one/train/00000.safetensors"] + sizes["one/train/00001.safetensors"]
    assert cells[0] == ["one", "train", "7", "2", f"{both:,}"]
    assert [row[:4] for row in cells[1:]] == [["target", "train", "2", "1"], ["target", "val", "4", "1"]]
