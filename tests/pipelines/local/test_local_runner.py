"""What keeps a run from starting is one sentence; what its steps record is sent while it goes on."""

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console
from waiting import wait_until

from gradsift.components.shared.errors import GradsiftError, InputError
from gradsift.components.shared.parameters.pipeline_settings import defaults
from gradsift.components.shared.tracking import tracking
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.pipelines.local.local_run import _follow, run_pipeline

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


def test_what_steps_record_is_sent_while_the_run_goes_on(
    tmp_path: Path, mlflow_experiment: str, mlflow_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    monkeypatch.setattr(tracking, "SEND_EVERY_SECONDS", 0.0)
    client = MlflowClient(mlflow_server.uri)
    with subprocess.Popen(["sleep", "120"]) as steps, ThreadPoolExecutor(1) as pool:
        following = pool.submit(_follow, steps, str(tmp_path), "run-1", Console(quiet=True))
        try:
            with track_step("meta_training", str(tmp_path), {}) as tracker:
                tracker.metrics({"loss": 0.5})
            monkeypatch.delenv("GRADSIFT_MLFLOW")
            wait_until(lambda: losses(client, mlflow_experiment) == [0.5])
        finally:
            steps.kill()
        assert following.result()["meta_training"].status == "finished"


def losses(client: MlflowClient, experiment: str) -> list[float]:
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    return [run.data.metrics["loss"] for run in runs if "loss" in run.data.metrics]
