"""`gradsift doctor` on what is in order and on what is not."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradsift.pipelines.cli.command_line", "doctor", *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, timeout=120)


def test_a_whole_installation_with_a_real_server_and_a_real_bucket(mlflow_server: Any, s3_root: str) -> None:
    done = doctor("--output", s3_root, MLFLOW_TRACKING_URI=mlflow_server.uri)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    for words in (
        "gradsift 0",
        "deepspeed",
        "the tracking server answers",
        "can be written, read and deleted",
    ):
        assert words in done.stdout


def test_the_run_root_is_left_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert doctor("--output", str(root)).returncode == 0
    assert list(root.iterdir()) == []


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = doctor("--output", str(tmp_path / "file" / "root"), MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stdout.count("✗") == 2
    assert "MLFLOW_TRACKING_URI names does not answer" in done.stdout
    assert f"{tmp_path}/file" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_image_without_torch_says_what_it_can_do() -> None:
    code = "import sys; sys.modules['torch'] = None; from gradsift.pipelines.cli.doctor import examine; "
    code += "print([finding for finding in examine(None) if finding.check == 'training'][0].words)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "no torch: estimates and selects, but trains nothing\n"
