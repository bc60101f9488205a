"""A training goes on from its checkpoint under every ZeRO stage, and runs no code that a checkpoint holds."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from evicted_training import train_until
from transformers.trainer_callback import TrainerState

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.training.deepspeed_compat import CHECKPOINT_CLASSES
from gradsift.components.shared.training.job import TrainingJob

STEPS, STOP = 6, 3
STAGES = range(4)
FILES = ("mp_rank_00_model_states.pt", "optim_states.pt", "rng_state.pth", "scheduler.pt")
"""What a checkpoint holds that `torch.load` reads, one for each stage."""


class Planted:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def evicted(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[TrainingJob]]:
    """A scratch folder with the checkpoint of a training of each stage, evicted in the middle; and the jobs."""
    folder = tmp_path_factory.mktemp("evicted")
    data, model = fetch(prepared_data), ModelConfig(base_model=str(tiny_encoder))
    jobs = [
        TrainingJob(
            folder / f"stage{stage}",
            data,
            ["sst2"],
            model,
            TrainingRecipe(
                steps=STEPS,
                batch_size=8,
                learning_rate=3e-3,
                precision="float32",
                processes=1,
                zero_stage=stage,
            ),
        )
        for stage in STAGES
    ]
    (folder / "jobs.json").write_text(json.dumps([job.to_json() for job in jobs]))
    train_until(folder, STOP)
    return folder, jobs


def checkpoint(scratch: Path, job: TrainingJob) -> Path:
    [whole] = (scratch / "checkpoints" / job.folder.name).glob("checkpoint-*/whole")
    return whole.parent


@pytest.mark.slow
def test_every_stage_goes_on_from_its_checkpoint(
    evicted: tuple[Path, list[TrainingJob]], tmp_path: Path
) -> None:
    folder, jobs = evicted
    scratch = shutil.copytree(folder, tmp_path / "scratch")
    for job in jobs:
        state = TrainerState.load_from_json(str(checkpoint(scratch, job) / "trainer_state.json"))
        assert state.global_step == STOP + 1
    printed = train_until(scratch, -1)
    steps = [int(line.split()[1]) for line in printed.splitlines() if line.startswith("step ")]
    assert steps == list(range(STOP + 1, STEPS)) * len(STAGES)
    assert all(job.finished for job in jobs)


def test_a_checkpoint_holds_no_frozen_weights(evicted: tuple[Path, list[TrainingJob]]) -> None:
    folder, jobs = evicted
    [states] = checkpoint(folder, jobs[0]).rglob("*model_states.pt")
    with torch.serialization.safe_globals(CHECKPOINT_CLASSES):
        weights = torch.load(states, weights_only=True)["module"]
    assert any("attention" in name for name in weights)
    assert [name for name in weights if "embeddings" in name] == []


def test_code_in_a_checkpoint_does_not_run(evicted: tuple[Path, list[TrainingJob]], tmp_path: Path) -> None:
    folder, jobs = evicted
    scratch = shutil.copytree(folder, tmp_path / "scratch")
    for job, kept in zip(jobs, FILES, strict=True):
        [file] = [path for path in checkpoint(scratch, job).rglob("*") if path.name.endswith(kept)]
        _replace_pickle(file, pickle.dumps(Planted(tmp_path / f"{kept} ran")))
    printed = train_until(scratch, -1)
    assert list(tmp_path.glob("* ran")) == []
    assert printed.count("UnpicklingError: Weights only load failed") == len(FILES)


def _replace_pickle(file: Path, content: bytes) -> None:
    """Replace the pickle in a file that `torch.save` wrote, and leave all else."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, each in members.items():
            archive.writestr(name, content if name.endswith("data.pkl") else each)
