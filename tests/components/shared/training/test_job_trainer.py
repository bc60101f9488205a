"""What a job's trainer makes of a micro-batch that does not fit into a GPU's memory."""

from types import SimpleNamespace

import pytest
import torch
from transformers import Trainer

from gradsift.components.shared.errors import BatchMemoryError
from gradsift.components.shared.training import job_trainer


@pytest.mark.parametrize(
    ("rows", "may_divide", "others", "error"),
    [
        (4, True, False, BatchMemoryError),
        (1, True, False, torch.OutOfMemoryError),
        (4, False, False, torch.OutOfMemoryError),
        (4, True, True, torch.OutOfMemoryError),
    ],
)
def test_a_micro_batch_that_does_not_fit_is_divided_where_it_may_and_can_be(
    monkeypatch: pytest.MonkeyPatch, rows: int, may_divide: bool, others: bool, error: type[Exception]
) -> None:
    def is_full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Trainer, "training_step", is_full)
    monkeypatch.setattr(job_trainer, "others_hold_memory", lambda device: others)
    trainer = object.__new__(job_trainer.JobTrainer)
    trainer.args = SimpleNamespace(per_device_train_batch_size=rows, device=torch.device("cuda"))
    trainer.may_divide = may_divide
    with pytest.raises(error):
        trainer.training_step("model", "inputs")


def test_another_error_of_a_micro_batch_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("The shapes do not match.")

    monkeypatch.setattr(Trainer, "training_step", fails)
    trainer = object.__new__(job_trainer.JobTrainer)
    trainer.args = SimpleNamespace(per_device_train_batch_size=4, device=torch.device("cpu"))
    trainer.may_divide = True
    with pytest.raises(RuntimeError, match="shapes"):
        trainer.training_step("model", "inputs")
