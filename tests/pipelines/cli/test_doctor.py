"""`gradsift doctor` on what is in order and on what is not."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from gradsift.pipelines.cli.command_line import main

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doctor(gradsift: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Return what examines the installation without a tracking server, unless a test names one."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return partial(gradsift, "doctor")


def test_a_whole_installation_with_a_real_server_and_a_real_bucket(
    doctor: CommandLine, mlflow_server: Any, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    code, output, errors = doctor("--output", s3_root)
    assert code == 0, output + errors
    assert "✗" not in output
    for words in (
        "gradsift 0",
        "deepspeed",
        "the tracking server answers",
        "can be written, read and deleted",
    ):
        assert words in output


def test_a_terminal_without_the_characters_that_are_printed_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = TextIOWrapper(BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "argv", ["gradsift", "doctor", "--output", str(tmp_path / "été")])
    with pytest.raises(SystemExit, match="0"):
        main()
    terminal.seek(0)
    assert r"\u2713 run root" in terminal.read()


def test_the_run_root_is_left_as_it_was(doctor: CommandLine, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert doctor("--output", str(root))[0] == 0
    assert list(root.iterdir()) == []


def test_everything_that_is_wrong_is_said_at_once(
    doctor: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, output, errors = doctor("--output", str(tmp_path / "file" / "root"))
    assert code == 2
    assert output.count("✗") == 2
    assert "MLFLOW_TRACKING_URI names does not answer" in output
    assert f"{tmp_path}/file" in output
    assert "Traceback" not in output + errors


def test_an_image_without_torch_says_what_it_can_do() -> None:
    code = "import sys; sys.modules['torch'] = None; from gradsift.pipelines.cli.doctor import examine; "
    code += "print([finding for finding in examine(None) if finding.check == 'training'][0].words)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "no torch: estimates and selects, but trains nothing\n"
