"""A suite in a folder or in S3 is read whole, or refused with file and line."""

import gzip
import hashlib
import io
import json
import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.data.suites.suite_folder import SuiteFolder, json_lines
from gradsift.components.shared.data.suites.task import GenerationRow, Row, RowReader
from gradsift.components.shared.documents.texts import is_visible
from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.storage import s3
from gradsift.components.shared.storage.storage import open_storage

TEXT = st.text(st.characters(codec="utf-8"), min_size=1).filter(is_visible)


def test_a_task_is_read_with_the_splits_it_has(suite: Any) -> None:
    suite.config()
    folder = SuiteFolder(str(suite.folder))
    task = folder.read(folder.manifest.own_tasks()["books"], ("train", "val", "test"))
    assert (task.name, task.labels, task.licence) == ("books", ["negative", "positive"], "MIT")
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 4, "val": 2}
    assert task.splits["train"][3] == Row("books.train-3", "books.train text 3", None, 1)


def test_plain_and_compressed_files_give_the_same_rows(suite: Any) -> None:
    plain = suite.read()
    content = (suite.folder / "books.train.jsonl").read_bytes()
    (suite.folder / "books.train.jsonl.gz").write_bytes(gzip.compress(content))
    suite.task("books")["splits"]["train"]["file"] = "books.train.jsonl.gz"
    assert suite.read().tasks == plain.tasks


@given(st.lists(TEXT, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_any_text_survives_a_file(texts: list[str], escaped: bool, compressed: bool) -> None:
    records = [{"id": str(number), "text": text, "label": 0} for number, text in enumerate(texts)]
    content = "\n".join(json.dumps(record, ensure_ascii=escaped) for record in records).encode()
    where = "a.jsonl.gz" if compressed else "a.jsonl"
    rows = RowReader(["0"]).rows(
        json_lines(io.BytesIO(gzip.compress(content) if compressed else content), where)
    )
    assert [row.text for row in rows] == texts


def test_byte_order_mark_blank_lines_and_carriage_returns_do_not_matter() -> None:
    content = b'\xef\xbb\xbf{"id": 1}\r\n\r\n{"id": 2}\r\n'
    assert list(json_lines(io.BytesIO(content), "a.jsonl")) == [
        ("a.jsonl, line 1", {"id": 1}),
        ("a.jsonl, line 3", {"id": 2}),
    ]


def test_a_line_separator_inside_a_text_does_not_end_the_line() -> None:
    content = '{"text": "one\u2028two\x85three"}\n'.encode()
    assert [record["text"] for _, record in json_lines(io.BytesIO(content), "a.jsonl")] == [
        "one\u2028two\x85three"
    ]


def test_a_missing_manifest_is_named(tmp_path: Any) -> None:
    with pytest.raises(InputError) as caught:
        SuiteFolder(str(tmp_path / "nowhere"))
    assert str(caught.value) == (
        f"There is no task suite at {tmp_path}/nowhere: expected a folder or an s3:// address with a "
        "manifest.json, a YAML file, or 'demo'."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "manifest.json is not valid JSON (Expecting property name"),
        (b"", "manifest.json is not valid JSON (Expecting value"),
        (b"[" * 100_000, "manifest.json is not valid JSON (maximum recursion depth"),
        (b"\xff{}", "manifest.json, line 1 is not UTF-8 (byte 0xff), expected text in UTF-8."),
        (b"[]", "manifest.json holds list, expected an object with 'suite' and 'tasks'."),
    ],
)
def test_a_manifest_that_is_no_json_object_is_named(suite: Any, content: bytes, message: str) -> None:
    (suite.folder / "manifest.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        SuiteFolder(str(suite.folder))
    assert str(caught.value).startswith(f"{suite.folder}/{message}")


ROW = b'{"id": "x", "text": "good", "label": 0}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", " has no rows, expected at least one."),
        (b"\n \n", " has no rows, expected at least one."),
        (ROW + b'{"id": "y"', ", line 2 is not valid JSON (Expecting ',' delimiter"),
        (ROW + b"[" * 100_000, ", line 2 is not valid JSON (maximum recursion depth"),
        (ROW + b'{"id": ' + b"1" * 5000 + b"}", ", line 2 is not valid JSON (Exceeds the limit"),
        (
            ROW + b'{"id": "y", "text": "a", "text": "b", "label": 0}',
            ", line 2 is not valid JSON (the key 'text' is",
        ),
        (
            ROW + b'{"id": "y", "text": "a", "label": NaN}',
            ", line 2 is not valid JSON (NaN is no number of JSON)",
        ),
        (
            ROW + b'{"id": "y", "text": "a", "label": 1e999}',
            ", line 2 is not valid JSON (1e999 is too large a",
        ),
        (ROW + b'{"id": "' + b"y" * 2**20, ", line 2 is longer than 1,048,576 bytes."),
        (ROW + b"[1]", ", line 2 holds list, expected a JSON object."),
        (ROW + b'{"id": "caf\xe9"}', ", line 2 is not UTF-8 (byte 0xe9), expected text in UTF-8."),
        (ROW + ROW, ", line 2: the id 'x' is also that of "),
        (ROW + b'{"id": "y", "label": 0}', ", line 2 (id 'y'): 'text' is missing"),
        (
            ROW + b'{"id": "y", "text": "t", "label": "5"}',
            ", line 2 (id 'y'): 'label' is '5', expected one of the task's labels: 0, 1.",
        ),
        (
            ROW + b'{"id": "y", "text": "\\ud800", "label": 0}',
            ", line 2 (id 'y'): 'text' holds half of a surrogate pair, expected valid Unicode.",
        ),
    ],
)
def test_a_faulty_file_is_named_with_the_line(suite: Any, content: bytes, message: str) -> None:
    (suite.folder / "books.train.jsonl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        suite.read()
    assert str(caught.value).startswith(f"{suite.folder}/books.train.jsonl{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-10], lambda data: b"plain", lambda data: data[:10] + b"\xff" + data[11:]],
    ids=["truncated", "not gzip", "altered"],
)
def test_a_broken_gzip_file_is_named(suite: Any, spoil: Any) -> None:
    content = gzip.compress((suite.folder / "books.train.jsonl").read_bytes())
    (suite.folder / "books.jsonl.gz").write_bytes(spoil(content))
    suite.task("books")["splits"]["train"]["file"] = "books.jsonl.gz"
    with pytest.raises(
        InputError, match=rf"^{suite.folder}/books\.jsonl\.gz is not a whole gzip file \(.+\), expected"
    ):
        suite.read()


@pytest.mark.parametrize(
    ("filler", "fault"),
    [
        (b"\n", "line 100001 is the 100,001th blank line, expected at most 100,000"),
        (b" ", "line 1 is longer than 1,048,576 bytes"),
        (b" " * 1023 + b"\n", "expands from .* to more than 16,777,216 bytes"),
    ],
)
def test_a_file_that_expands_beyond_measure_is_refused_before_it_has(
    suite: Any, filler: bytes, fault: str
) -> None:
    with gzip.open(suite.folder / "books.jsonl.gz", "wb") as file:
        for _ in range(64):
            file.write(filler * (2**20 // len(filler)))
    suite.task("books")["splits"]["train"]["file"] = "books.jsonl.gz"
    with pytest.raises(InputError, match=fault):
        suite.read()


def test_no_more_rows_are_read_than_the_manifest_says(suite: Any) -> None:
    suite.task("films")["splits"]["train"]["rows"] = 2
    (suite.folder / "films.train.jsonl").open("a").write("no JSON, but far beyond the two rows")
    with pytest.raises(InputError, match=r"films\.train\.jsonl has more rows, expected 2 as in"):
        suite.read()


def test_what_is_no_regular_file_is_refused_at_once(suite: Any) -> None:
    path = suite.folder / "books.train.jsonl"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StorageError, match=r"Cannot read .*books\.train\.jsonl: it is no regular file"):
        suite.read()


@pytest.mark.parametrize("goal", ["/dev/zero", "/etc/passwd", "../outside.jsonl"])
def test_a_link_that_leads_out_of_the_suite_is_refused(suite: Any, goal: str) -> None:
    path = suite.folder / "books.train.jsonl"
    path.rename(suite.folder.parent / "outside.jsonl")
    path.symlink_to(goal)
    with pytest.raises(
        InputError, match=r"books\.train\.jsonl is a link that leads out of .*/suite, expected"
    ):
        suite.read()


def test_a_link_inside_the_suite_is_followed(suite: Any) -> None:
    plain = suite.read()
    path = suite.folder / "books.train.jsonl"
    path.rename(suite.folder / "elsewhere.jsonl")
    path.symlink_to("elsewhere.jsonl")
    assert suite.read().tasks == plain.tasks


def test_a_missing_split_file_is_named(suite: Any) -> None:
    (suite.folder / "books.train.jsonl").unlink()
    with pytest.raises(
        StorageError, match=rf"^Cannot read {suite.folder}/books\.train\.jsonl: it does not exist\.$"
    ):
        suite.read()


def test_a_file_with_another_sha256_is_named(suite: Any) -> None:
    path = suite.folder / "films.val.jsonl"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    suite.task("films")["splits"]["val"]["sha256"] = digest
    suite.read()
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError, match=f"^{path} has the sha256 [0-9a-f]{{64}}, expected {digest} as in "):
        suite.read()


def test_a_file_with_another_number_of_rows_is_named(suite: Any) -> None:
    suite.task("films")["splits"]["val"]["rows"] = 3
    with pytest.raises(InputError) as caught:
        suite.read()
    assert str(caught.value) == (
        f"{suite.folder}/films.val.jsonl has 2 rows, expected 3 as in {suite.folder}/manifest.json."
    )


@pytest.mark.parametrize("said", [{"kind": "generation"}, {}])
def test_a_task_without_labels_is_of_generation(suite: Any, said: dict[str, str]) -> None:
    rows = [{"id": str(n), "prompt": f"sing {n}", "completion": "la", "references": ["lo"]} for n in range(2)]
    suite.write_rows("songs.jsonl", [rows[0], {**rows[1], "rationale": "as always"}])
    suite.manifest["tasks"].append({"name": "songs", "splits": {"train": {"file": "songs.jsonl"}}, **said})
    [songs] = [task for task in suite.read().tasks if task.name == "songs"]
    assert (songs.kind, songs.labels) == ("generation", [])
    assert songs.splits["train"] == [
        GenerationRow("0", "sing 0", "la", None, ["la", "lo"]),
        GenerationRow("1", "sing 1", "la", "as always", ["la", "lo"]),
    ]


def test_rows_with_labels_of_a_task_without_are_refused(suite: Any) -> None:
    del suite.task("books")["labels"]
    with pytest.raises(InputError, match="'label', but the task has no field 'labels': expected them"):
        suite.read()


def test_a_classification_task_needs_labels(suite: Any) -> None:
    suite.task("books").update(labels={}, kind="classification")
    with pytest.raises(InputError, match="task 'books', field 'labels' holds 0 labels, expected two or more"):
        suite.read()


def test_a_suite_in_s3_gives_the_same_rows(suite: Any, s3_root: str) -> None:
    local = suite.read()
    for path in suite.folder.iterdir():
        open_storage(s3_root).upload(path, path.name)
    remote = suite.read(suite=s3_root)
    assert (remote.tasks, remote.content_digest()) == (local.tasks, local.content_digest())
    assert remote.where == f"{s3_root}/manifest.json"


def test_s3_without_a_suite_is_named(s3_root: str) -> None:
    with pytest.raises(InputError, match=f"There is no task suite at {s3_root}: expected"):
        SuiteFolder(s3_root)


def test_refused_and_unreachable_s3_are_reported(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
        with pytest.raises(StorageError, match=rf"Cannot read {s3_root}/manifest\.json: access was refused"):
            SuiteFolder(s3_root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setattr(s3, "TRIES", 1)
    with pytest.raises(StorageError, match=rf"Cannot read {s3_root}/manifest\.json: Could not connect"):
        SuiteFolder(s3_root)
