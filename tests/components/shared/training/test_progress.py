"""What a training keeps on S3: only what is whole comes back, and the newest of it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from forked_training import forked_training
from safetensors.torch import load_file
from waiting import wait_until

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, work_uri
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.processes import EVENTS
from gradsift.components.shared.training.progress import TrainingProgress
from gradsift.components.shared.training.training import train


@pytest.fixture
def progress(s3_root: str) -> TrainingProgress:
    return TrainingProgress(s3_root)


def files(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_a_finished_job_comes_back_on_another_machine(progress: TrainingProgress, tmp_path: Path) -> None:
    folder = files(tmp_path / "one" / "job", weights="w", head__head="h")
    (folder / RESULT).write_text("{}")
    other = tmp_path / "other" / "job"
    assert not progress.has_result(other)
    assert not progress.fetch_result(other)
    progress.save_result(folder)
    assert progress.fetch_result(other)
    assert contents(other) == {"weights": "w", "head/head": "h", RESULT: "{}"}
    assert not progress.fetch_result(tmp_path / "another")


def test_a_result_that_was_cut_short_is_none(progress: TrainingProgress, tmp_path: Path) -> None:
    progress.save_result(files(tmp_path / "job", weights="w"))
    assert not progress.fetch_result(tmp_path / "job")


def test_the_newest_whole_checkpoint_comes_back_with_every_machines_part(
    progress: TrainingProgress, tmp_path: Path
) -> None:
    for step in (2, 10):
        for rank in (0, 1):
            part = files(tmp_path / str(rank) / f"checkpoint-{step}", **{f"deep__{rank}": f"{step} {rank}"})
            progress.save_checkpoint("job", 2, part)
        progress.seal_checkpoint("job", 2, f"checkpoint-{step}")
    kept = progress.storage.keys("checkpoints/")
    assert not any("checkpoint-2/" in key for key in kept), "older ones are dropped"
    older = "checkpoints/job/2-processes/checkpoint-9/whole"
    progress.storage.write(older, b"")  # as where a kill comes before they are
    progress.save_checkpoint("job", 2, files(tmp_path / "0" / "checkpoint-12", deep__0="cut short"))
    folder = files(tmp_path / "new", **{"checkpoint-99__stale": "of another training"})
    progress.fetch_checkpoint("job", 2, folder)
    assert contents(folder) == {
        "checkpoint-10/deep/0": "10 0",
        "checkpoint-10/deep/1": "10 1",
        "checkpoint-10/whole": "",
    }


def test_a_checkpoint_of_another_number_of_processes_or_job_is_none(
    progress: TrainingProgress, tmp_path: Path
) -> None:
    progress.save_checkpoint("job", 2, files(tmp_path / "checkpoint-1", a="a"))
    progress.seal_checkpoint("job", 2, "checkpoint-1")
    for job, processes in [("job", 4), ("job2", 2)]:
        progress.fetch_checkpoint(job, processes, tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_a_finished_job_needs_no_checkpoints(progress: TrainingProgress, tmp_path: Path) -> None:
    progress.save_checkpoint("job", 1, files(tmp_path / "checkpoint-1", a="a"))
    progress.save_checkpoint("job2", 1, tmp_path / "checkpoint-1")
    progress.save_result(files(tmp_path / "job", **{RESULT: "{}"}))
    assert progress.storage.keys("checkpoints/") == ["checkpoints/job2/1-processes/checkpoint-1/a"]


STEP = """
    import json, sys, tempfile
    from dataclasses import replace
    from pathlib import Path
    from gradsift.components.shared.tracking.tracking import track_step
    from gradsift.components.shared.training.job import TrainingJob
    from gradsift.components.shared.training.training import train

    scratch = Path(tempfile.gettempdir()) / "training"
    job = TrainingJob.from_json(json.loads(sys.argv[2]))
    with track_step("meta_training", sys.argv[1], {}) as tracker:
        train([replace(job, folder=scratch / "model")], scratch, tracker)
"""


@pytest.mark.slow
def test_a_pod_that_is_evicted_saves_and_the_next_one_goes_on_from_there(
    s3_root: str, prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe = TrainingRecipe(
        steps=150,
        batch_size=8,
        learning_rate=3e-3,
        precision="float32",
        processes=2,
        zero_stage=1,
        checkpoint_steps=1000,
    )
    data, model = fetch(prepared_data), ModelConfig(base_model=str(tiny_encoder))
    job = TrainingJob(tmp_path / "alone" / "model", data, ["sst2", "mr"], model, recipe)
    disks = [tmp_path / "first", tmp_path / "second"]

    def start(disk: Path) -> "subprocess.Popen[bytes]":
        disk.mkdir()
        command = [sys.executable, "-c", textwrap.dedent(STEP), s3_root, json.dumps(job.to_json())]
        return subprocess.Popen(command, env={**os.environ, "TMPDIR": str(disk)})

    first = start(disks[0])
    wait_until(lambda: bool(steps_done(disks[0])), 300)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=60) == 128 + signal.SIGTERM
    storage = open_storage(work_uri(s3_root, "training"))
    (whole,) = (key for key in storage.keys("") if key.endswith("/whole"))
    saved = int(whole.split("/")[3].removeprefix("checkpoint-"))
    assert 0 < saved < recipe.steps

    assert start(disks[1]).wait(timeout=300) == 0
    assert steps_done(disks[1])[0] > saved
    assert steps_done(disks[1])[-1] == recipe.steps
    with forked_training(), track_step("meta_training", str(tmp_path / "root"), {}) as tracker:
        train([job], tmp_path / "alone", tracker)
    name = "model.safetensors"
    found, expected = (
        load_file(folder / "model" / name) for folder in (disks[1] / "training", tmp_path / "alone")
    )
    for key, value in expected.items():
        if not key.endswith("key.bias"):  # softmax cancels them, so their gradients are rounding alone
            torch.testing.assert_close(found[key], value, atol=1e-5, rtol=0)


def steps_done(disk: Path) -> list[int]:
    path = disk / "training" / EVENTS
    return [json.loads(line)["done"] for line in path.read_text().splitlines()] if path.exists() else []
