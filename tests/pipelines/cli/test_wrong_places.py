"""Commands that are given a place that is none end with one sentence and exit code 2."""

import os
import sys
from pathlib import Path

import pytest

from gradsift.pipelines.cli.command_line import main


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["gradsift", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("command", [["mlflow-sync"], ["report"]])
@pytest.mark.parametrize("place", ["nowhere", "empty", "file", "http://host/run"])
def test_a_folder_of_no_run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: list[str],
    place: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    code, errors = run(monkeypatch, capsys, *command, "--output", place)
    assert code == 2
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


@pytest.mark.parametrize("goal", ["file/below", "folder", "fifo", "x" * 300, "loop/x", ".", "/"])
def test_a_compiled_pipeline_into_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, goal: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    code, errors = run(monkeypatch, capsys, "compile", "--to", goal)
    assert code == 2
    assert errors.startswith("Error: Cannot write ")
    assert errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "file", "folder", "loop"]


@pytest.mark.parametrize("place", ["fifo", "s3://bucket/study", "s3://[", "two\nlines"])
def test_a_folder_that_no_study_can_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fifo").mkdir()
    os.mkfifo(tmp_path / "fifo" / "lock")
    (tmp_path / "two\nlines").touch()
    code, errors = run(monkeypatch, capsys, "fidelity", "--output", place)
    assert code == 2
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "two\nlines"]


def test_a_current_folder_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, errors = run(monkeypatch, capsys, "doctor", "--output", "run")
    assert (code, errors) == (
        2,
        "Error: The current folder is gone: expected the command to be run in another.\n",
    )
