"""A run root that is no folder, or holds what no run wrote, is one sentence and starts nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from gradsift.components.shared.errors import GradsiftError, InputError
from gradsift.components.shared.parameters.pipeline_settings import defaults
from gradsift.pipelines.local.local_run import run_pipeline

WAYS: dict[str, Callable[[Path], str]] = {
    "a file": lambda folder: f"{folder}/file",
    "below a file": lambda folder: f"{folder}/file/run",
    "a link to itself": lambda folder: f"{folder}/loop",
    "a link to nowhere": lambda folder: f"{folder}/nowhere",
    "a fifo": lambda folder: f"{folder}/fifo",
    "a device": lambda _: "/dev/null",
    "below a device": lambda _: "/dev/null/run",
    "a folder of the kernel": lambda _: "/proc/run",
    "a long name": lambda folder: f"{folder}/{'x' * 300}",
    "a long path": lambda folder: f"{folder}/{'x/' * 3000}",
    "nothing": lambda _: "",
    "NUL": lambda folder: f"{folder}/a\0b",
    "half of a surrogate pair": lambda folder: f"{folder}/a\ud800b",
    "another scheme": lambda _: "http://host/run",
    "no bucket": lambda _: "s3://",
    "out of the bucket": lambda _: "s3://bucket/../run",
}


def start(root: str) -> None:
    run_pipeline({**defaults(), "output_uri": root}, Console())


@pytest.mark.parametrize("way", WAYS)
def test_a_run_root_that_is_no_folder_is_one_sentence(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").write_text("here already")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "none" / "run")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(GradsiftError, match=r"^[A-Z].*\.$") as caught:
        start(WAYS[way](tmp_path))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "here already"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"run_id": "../../x", "finished": false, "parameters": {}}',
        '{"run_id": 5}',
    ],
)
def test_a_run_file_that_no_run_wrote_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(
        InputError, match=rf"^{tmp_path}/run\.json (is not valid JSON|holds|does not describe).*\.$"
    ):
        start(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "lock"}
