"""What a training process makes of the Trainer's own records, of a full GPU, and of outages."""

import json
from pathlib import Path

import pytest
import torch

from gradsift.components.shared.errors import GpuMemoryError, InputError
from gradsift.components.shared.process import gpus, outages
from gradsift.components.shared.training import worker
from gradsift.components.shared.training.processes import EVENTS, FAILURE, JOBS, error_of
from gradsift.components.shared.training.worker import loss_curve


def test_a_loss_curve_does_not_show_where_checkpoints_were_made() -> None:
    plain = [{"step": 3, "loss": 4.0}, {"step": 6, "loss": 2.0}, {"step": 7, "loss": 1.0}]
    resumed = [
        {"step": 1, "loss": 6.0},
        {"step": 3, "loss": 3.0},
        {"step": 5, "loss": 2.5},
        {"step": 6, "loss": 1.0},
        {"step": 7, "loss": 1.0},
        {"step": 7, "train_loss": 9.0},
    ]
    curve = [(3, 4.0), (6, 2.0), (7, 1.0)]
    assert loss_curve(plain, every=3, steps=7) == curve
    assert loss_curve(resumed, every=3, steps=7) == curve


@pytest.mark.parametrize("others", [True, False])
def test_memory_that_runs_out_is_told_to_the_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, others: bool
) -> None:
    def train_all(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(worker, "_train_all", train_all)
    monkeypatch.setattr(gpus, "others_hold_memory", lambda device: others)
    (tmp_path / JOBS).write_text("[]")
    with pytest.raises(SystemExit, match="2"):
        worker.main(tmp_path, None)
    error = error_of(json.loads((tmp_path / FAILURE).read_text()))
    assert type(error) is (GpuMemoryError if others else InputError)
    assert ("other processes hold" in str(error)) is others


def test_a_wait_for_storage_is_told_to_the_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker, "_train_all", lambda *_: outages.logger.warning("It is %s.", "down"))
    (tmp_path / JOBS).write_text("[]")
    worker.main(tmp_path, None)
    assert json.loads((tmp_path / EVENTS).read_text()) == {"warning": "It is down."}
