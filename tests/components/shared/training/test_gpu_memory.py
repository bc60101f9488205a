"""Training where GPU memory is full: others are waited for, and micro-batches that do not fit are divided."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_training import forked_training
from safetensors.torch import load_file

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.errors import BatchMemoryError, GpuMemoryError, InputError
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.process import outages
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training import processes
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.processes import EVENTS
from gradsift.components.shared.training.training import train

TASKS = ["sst2", "mr", "trec"]
RECIPE = TrainingRecipe(steps=24, batch_size=8, learning_rate=3e-3, precision="float32", processes=1, seed=3)


@pytest.fixture(scope="module")
def data(prepared_data: StepOutput) -> Path:
    return fetch(prepared_data)


def run(jobs: list[TrainingJob], scratch: Path) -> list[dict[str, Any]]:
    with track_step("meta_training", str(scratch / "root"), {}) as tracker:
        return train(jobs, scratch, tracker)


def test_a_gpu_that_others_fill_is_waited_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages, "_logged_at", {})
    monkeypatch.setattr(outages, "MAX_DELAY_SECONDS", 0.01)
    monkeypatch.setenv(outages.VARIABLE, "60")
    jobs = [TrainingJob(tmp_path / name, data, TASKS, ModelConfig(), RECIPE) for name in ("first", "second")]
    launches: list[list[str]] = []

    def launch(unfinished: list[TrainingJob], *_: Any) -> None:
        launches.append([job.folder.name for job in unfinished])
        if len(launches) == 3:
            raise InputError("The next error is not waited for.")
        jobs[0].folder.mkdir(exist_ok=True)
        (jobs[0].folder / RESULT).write_text("{}")
        raise GpuMemoryError("The memory of GPU 0 is full.")

    monkeypatch.setattr(processes, "run_processes", launch)
    with pytest.raises(InputError, match="not waited for"):
        run(jobs, tmp_path / "work")
    assert launches == [["first", "second"], ["second"], ["second"]]
    assert caplog.messages == ["The memory of GPU 0 is full. Waiting for 0 of 1 minutes so far."]


def test_training_continues_with_fewer_rows_at_once_until_they_fit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [TrainingJob(tmp_path / name, data, TASKS, ModelConfig(), RECIPE) for name in ("first", "second")]
    launches: list[list[tuple[str, int]]] = []

    def launch(unfinished: list[TrainingJob], *_: Any) -> None:
        launches.append([(job.folder.name, job.micro_batches) for job in unfinished])
        for job in unfinished:
            if job.micro_batches < 4:
                raise BatchMemoryError(f"{8 // job.micro_batches} rows at once do not fit.")
            job.folder.mkdir()
            (job.folder / RESULT).write_text("{}")

    monkeypatch.setattr(processes, "run_processes", launch)
    assert run(jobs, tmp_path / "work") == [{}, {}]
    assert launches == [[("first", parts), ("second", parts)] for parts in (1, 2, 4)]
    assert caplog.messages == [
        f"{rows} rows at once do not fit. Training continues with fewer." for rows in (8, 4)
    ]


FULL_GPU = """
import os
import torch
from torch.nn import Module

call, calls = Module.__call__, 0


def full(self, *inputs, **batch):
    global calls
    if type(self).__name__ == "EncoderClassifier" and self.training:
        calls += 1
        if len(batch["label"]) > int(os.environ["FITTING_ROWS"]) and calls > 7:
            raise torch.OutOfMemoryError("CUDA out of memory.")
    return call(self, *inputs, **batch)


Module.__call__ = full
"""
"""What every process of a launch begins with: its GPU is full from the eighth micro-batch on."""


@pytest.mark.slow
def test_a_training_whose_micro_batches_do_not_fit_ends_as_if_they_did(
    data: Path,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = RECIPE.model_copy(update={"processes": 2, "checkpoint_steps": 3})
    whole = TrainingJob(tmp_path / "whole", data, TASKS, ModelConfig(base_model=str(tiny_encoder)), recipe)
    monkeypatch.setenv("FITTING_ROWS", "4")
    with forked_training(FULL_GPU):
        [expected] = run([whole], tmp_path / "alone")
    monkeypatch.setenv("FITTING_ROWS", "1")
    with forked_training(FULL_GPU):
        [found] = run([replace(whole, folder=tmp_path / "parts")], tmp_path / "work")
    assert expected["micro_batch_size"] == 4
    assert found["micro_batch_size"] == 1
    assert caplog.messages == [
        f"{rows} rows at once do not fit into the GPU's memory. Training continues with fewer."
        for rows in (4, 2)
    ]
    assert json.loads((tmp_path / "work" / EVENTS).read_text().splitlines()[0])["done"] > 9
    losses = [[loss for _, loss in result["losses"]] for result in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    parts, all_at_once = (load_file(tmp_path / name / "model.safetensors") for name in ("parts", "whole"))
    for name, value in parts.items():
        if not name.endswith("key.bias"):  # softmax cancels it: its gradient is rounding alone
            torch.testing.assert_close(value, all_at_once[name], atol=1e-3, rtol=0)

    limited = replace(
        whole, folder=tmp_path / "limited", recipe=recipe.model_copy(update={"micro_batch_size": 2})
    )
    does_not_fit = r"^The training does not fit into the GPU's memory: expected a "
    with forked_training(FULL_GPU), pytest.raises(InputError, match=does_not_fit):
        run([limited], tmp_path / "work")
    assert not limited.finished
