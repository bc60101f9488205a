"""A step's output: made once, found again, continued after a kill, and never read altered."""

import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kfp import dsl

from gradsift.components.shared.artifacts.step_output import (
    MANIFEST,
    StepOutput,
    canonical_json,
    copy_file,
    digest_of,
    fetch,
    find_output,
    origin_of,
    output_key,
    produce,
    read_file,
    work_folder,
    work_uri,
    write_manifest,
    write_pointer,
)
from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.storage.storage import open_storage

STEP = "data_preparation"
INPUTS = {"seed": 1, "data": "digest"}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    if request.param == "local":
        return str(tmp_path / "run")
    address: str = request.getfixturevalue("s3_root")
    return address


def write_two_files(folder: Path) -> dict[str, Any]:
    (folder / "a.txt").write_text("first")
    (folder / "below").mkdir(exist_ok=True)
    (folder / "below" / "b.bin").write_bytes(bytes(1000))
    return {"rows": 3, "name": "ä"}


def not_again(folder: Path) -> dict[str, Any]:
    raise AssertionError("the step ran though its output is there")


def test_an_output_lists_its_files_inputs_and_metadata(root: str) -> None:
    output = produce(root, STEP, INPUTS, write_two_files)
    manifest = json.loads(open_storage(output.uri).read(MANIFEST))
    assert output.uri == f"{root}/{STEP}/{output_key(STEP, INPUTS)}"
    assert not output.reused
    assert (manifest["step"], manifest["inputs"], manifest["metadata"]) == (STEP, INPUTS, output.metadata)
    assert [(entry["name"], entry["bytes"]) for entry in manifest["files"]] == [
        ("a.txt", 5),
        ("below/b.bin", 1000),
    ]
    assert read_file(output, "a.txt") == b"first"
    assert read_file(output, "below/b.bin") == bytes(1000)


def test_a_finished_step_does_not_run_again(root: str) -> None:
    first = produce(root, STEP, INPUTS, write_two_files)
    second = produce(root, STEP, dict(reversed(INPUTS.items())), not_again)
    assert second.reused
    assert (second.uri, second.digest, second.metadata) == (first.uri, first.digest, first.metadata)


def test_other_inputs_make_another_output_beside_the_first(root: str) -> None:
    first = produce(root, STEP, INPUTS, write_two_files)
    other = produce(root, STEP, {**INPUTS, "seed": 2}, write_two_files)
    assert other.uri != first.uri
    assert find_output(first.uri) is not None


def test_another_step_or_its_code_gives_another_key() -> None:
    assert (
        len({output_key(step, INPUTS) for step in ("data_preparation", "evaluation", "meta_training")}) == 3
    )


def test_an_output_that_lost_a_file_is_made_again(root: str) -> None:
    output = produce(root, STEP, INPUTS, write_two_files)
    remove(output, "below/b.bin")
    assert find_output(output.uri) is None
    again = produce(root, STEP, INPUTS, write_two_files)
    assert not again.reused
    assert read_file(again, "below/b.bin") == bytes(1000)


@pytest.mark.parametrize("content", [b"First", b"fir", b""], ids=["altered", "truncated", "emptied"])
def test_an_altered_file_is_named(root: str, content: bytes) -> None:
    output = produce(root, STEP, INPUTS, write_two_files)
    open_storage(output.uri).write("a.txt", content)
    with pytest.raises(StorageError, match=f"{output.uri}/a.txt is missing or altered: expected 5 bytes"):
        fetch(output)
    assert (fetch(output, ["below/b.bin"]) / "below" / "b.bin").exists()


def test_a_file_that_went_missing_is_named(root: str) -> None:
    output = produce(root, STEP, INPUTS, write_two_files)
    remove(output, "a.txt")
    with pytest.raises(StorageError, match=rf"{output.uri}/a\.txt"):
        fetch(output)


def test_an_altered_manifest_is_named(root: str) -> None:
    output = produce(root, STEP, INPUTS, write_two_files)
    open_storage(output.uri).write(MANIFEST, open_storage(output.uri).read(MANIFEST) + b" ")
    with pytest.raises(StorageError, match=rf"{output.uri}/manifest\.json was altered"):
        fetch(output)


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_with_a_flipped_bit_or_a_missing_end_is_never_taken(
    tmp_path: Path, data: st.DataObject
) -> None:
    output = produce(str(tmp_path), STEP, INPUTS, write_two_files)
    path = Path(output.uri) / MANIFEST
    whole = path.read_bytes()
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[data.draw(st.integers(0, len(whole) - 1)) :]
    path.write_bytes(bytes(damaged))
    try:
        for use in (
            lambda: find_output(output.uri),
            lambda: fetch(output),
            lambda: produce(str(tmp_path), STEP, INPUTS, write_two_files),
        ):
            with pytest.raises(StorageError, match=r"manifest\.json (is damaged|was altered)") as caught:
                use()
            assert "\n" not in str(caught.value)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("content", [b"null", b"{}", b"[]", b'{"digest": 5}', b"\xff", b'{"files": NaN}'])
def test_what_no_step_wrote_is_no_manifest(tmp_path: Path, content: bytes) -> None:
    output = produce(str(tmp_path), STEP, INPUTS, write_two_files)
    (Path(output.uri) / MANIFEST).write_bytes(content)
    with pytest.raises(
        StorageError, match=rf"^{output.uri}/manifest\.json is damaged: expected it as its step wrote"
    ):
        find_output(output.uri)


def test_an_output_in_the_place_of_another_is_not_taken(tmp_path: Path) -> None:
    output = produce(str(tmp_path), STEP, INPUTS, write_two_files)
    other = Path(output.uri).rename(Path(output.uri).with_name("0" * 16))
    with pytest.raises(StorageError, match=r"manifest\.json belongs to other inputs than its folder; delete"):
        find_output(str(other))


@pytest.mark.parametrize(
    "content", ["null", "[]", "{", '{"uri": 5, "digest": "", "metadata": {}}', '{"uri": "a"}']
)
def test_a_garbage_pointer_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "output.origin.json").write_text(content)
    with pytest.raises(
        InputError,
        match=rf"^{tmp_path}/output\.origin\.json (is not valid JSON|holds|points to no output).*\.$",
    ):
        origin_of(tmp_path / "output")


def test_a_manifest_cannot_name_a_file_outside_the_output(root: str) -> None:
    output = produce(root, STEP, INPUTS, write_two_files)
    content = write_manifest(STEP, INPUTS, {}, [{"name": "../../x", "bytes": 1, "sha256": "0"}])
    open_storage(output.uri).write(MANIFEST, content)
    import hashlib

    forged = StepOutput(output.uri, hashlib.sha256(content).hexdigest(), {})
    with pytest.raises(Exception, match=r"'\.\./\.\./x' is not allowed"):
        fetch(forged)


def test_a_damaged_local_copy_of_a_remote_file_is_fetched_again(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    output = produce(s3_root, STEP, INPUTS, write_two_files)
    (fetch(output) / "a.txt").write_text("damaged")
    assert read_file(output, "a.txt") == b"first"


def test_a_remote_output_leaves_no_scratch_behind(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    produce(s3_root, STEP, INPUTS, write_two_files)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_files_without_a_manifest_are_no_output(root: str) -> None:
    uri = f"{root}/{STEP}/{output_key(STEP, INPUTS)}"
    open_storage(uri).write("a.txt", b"of an upload that was killed")
    assert find_output(uri) is None
    output = produce(root, STEP, INPUTS, write_two_files)
    assert read_file(output, "a.txt") == b"first"


def test_work_that_fails_leaves_no_output_and_can_be_tried_again(root: str) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "a.txt").write_text("half")
        raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="the disk is full"):
        produce(root, STEP, INPUTS, fail)
    assert find_output(f"{root}/{STEP}/{output_key(STEP, INPUTS)}") is None
    assert read_file(produce(root, STEP, INPUTS, write_two_files), "a.txt") == b"first"


def test_killed_work_continues_with_what_it_left(root: str, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import os, signal, sys, tempfile
        from gradsift.components.shared.artifacts.step_output import produce
        from gradsift.components.shared.storage.local import atomic_file
        tempfile.tempdir = sys.argv[2]

        def work(folder):
            (folder / "finished.txt").write_text("took hours")
            with atomic_file(folder / "next.txt") as temporary:
                temporary.write_text("ha")
                os.kill(os.getpid(), signal.SIGKILL)

        produce(sys.argv[1], "data_preparation", {"seed": 1, "data": "digest"}, work)
        """
    )
    arguments = [sys.executable, "-c", program, root, tempfile.gettempdir()]
    assert subprocess.run(arguments, check=False).returncode == -9
    scratch = work_folder(root, f"{STEP}-{output_key(STEP, INPUTS)}")
    assert len(list(scratch.iterdir())) == 2, "the kill left the finished file and a temporary one"

    def work(folder: Path) -> dict[str, Any]:
        assert (folder / "finished.txt").read_text() == "took hours"
        (folder / "next.txt").write_text("whole")
        return {}

    folder = fetch(produce(root, STEP, INPUTS, work))
    assert sorted(path.name for path in folder.iterdir() if path.name != MANIFEST) == [
        "finished.txt",
        "next.txt",
    ]


def test_a_manifest_that_was_not_published_is_written_again(root: str) -> None:
    scratch = work_folder(root, f"{STEP}-{output_key(STEP, INPUTS)}")
    (scratch / MANIFEST).write_text("of a call that was killed before it could publish")
    output = produce(root, STEP, INPUTS, write_two_files)
    manifest = json.loads(open_storage(output.uri).read(MANIFEST))
    assert [entry["name"] for entry in manifest["files"]] == ["a.txt", "below/b.bin"]
    fetch(output)


def test_a_run_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=rf"Cannot write {tmp_path}/file/work/.*: not a directory"):
        produce(str(tmp_path / "file"), STEP, INPUTS, write_two_files)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STEP).write_text("in the way")
    with pytest.raises(StorageError, match=rf"Cannot write {tmp_path}/run/{STEP}/"):
        produce(str(tmp_path / "run"), STEP, INPUTS, write_two_files)


def test_a_pointer_leads_to_the_output(root: str, tmp_path: Path) -> None:
    output = produce(root, STEP, INPUTS, write_two_files)
    artifact = dsl.Dataset(uri=str(tmp_path / "artifact"))
    write_pointer(output, artifact)
    pointer = json.loads(Path(artifact.path).read_text())
    found = StepOutput(pointer["uri"], pointer["digest"], pointer["metadata"])
    assert found == output
    assert artifact.metadata == {"uri": output.uri, "digest": output.digest, **output.metadata}
    copy = dsl.Markdown(uri=str(tmp_path / "copy"))
    copy_file(found, "a.txt", copy)
    assert Path(copy.path).read_text() == "first"


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_a_digest_depends_on_the_content_alone(value: dict[str, Any]) -> None:
    assert json.loads(canonical_json(value)) == value
    assert digest_of(dict(reversed(value.items()))) == digest_of(value)
    assert digest_of({**value, "one more": 1}) != digest_of({**value, "one more": 2})


def remove(output: StepOutput, name: str) -> None:
    storage = open_storage(output.uri)
    if output.uri.startswith("s3://"):
        storage.client.delete_object(Bucket=storage.bucket, Key=f"{storage.prefix}/{name}")  # type: ignore[attr-defined]
    else:
        (Path(output.uri) / name).unlink()


def test_a_fetched_folder_tells_where_it_came_from_last(s3_root: str, tmp_path: Path) -> None:
    """The same content at another address has the same folder."""

    def work(folder: Path) -> dict[str, Any]:
        (folder / "file").write_text("content")
        return {"rows": 1}

    outputs = [produce(f"{s3_root}/{name}", STEP, INPUTS, work) for name in ("one", "two")]
    for output in outputs:
        assert origin_of(fetch(output)) == output
    assert fetch(outputs[0]) == fetch(outputs[1])
    assert origin_of(tmp_path) is None


def test_what_outlives_the_machine_goes_when_the_output_is_finished(s3_root: str) -> None:
    key = output_key(STEP, INPUTS)
    others = open_storage(s3_root)
    others.write("work/other/file", b"of another step")

    def work(folder: Path) -> dict[str, Any]:
        assert folder.name == f"{STEP}-{key}"
        open_storage(work_uri(s3_root, f"{folder.name}-processes")).write("checkpoint", b"large")
        (folder / "file").write_text("content")
        return {}

    produce(s3_root, STEP, INPUTS, work)
    assert others.keys("work/") == ["work/other/file"]
