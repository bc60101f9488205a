"""DeepSpeed's internals are still as gradsift uses them."""

import importlib
import io
import pickle
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from gradsift.components.shared.training.deepspeed_compat import (
    CHECKPOINT_CLASSES,
    use_gloo_between_cpu_processes,
)


def test_deepspeed_looks_up_whether_its_shared_memory_kernel_can_be_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[str] = []
    backend = importlib.import_module("deepspeed.comm.torch")  # `deepspeed.comm.torch` is torch itself
    monkeypatch.setattr(backend, "get_accelerator", CPU_Accelerator)
    monkeypatch.setattr(ShareMemCommBuilder, "load", lambda self: compiled.append(self.NAME))
    monkeypatch.setattr(deepspeed.ops, "__compatible_ops__", {"deepspeed_shm_comm": True})
    backend.build_shm_op()
    assert compiled == ["deepspeed_shm_comm"]
    use_gloo_between_cpu_processes()
    assert backend.build_shm_op() is None
    assert compiled == ["deepspeed_shm_comm"]


@pytest.mark.parametrize(
    "value", [LossScaler(1.0), ZeroStageEnum.weights, fragment_address(numel=3, start=1)]
)
def test_a_class_of_a_checkpoint_is_read_where_it_is_named_as_safe(value: Any) -> None:
    file = io.BytesIO()
    torch.save({"state": value}, file)
    file.seek(0)
    with torch.serialization.safe_globals(CHECKPOINT_CLASSES):
        read = torch.load(file, weights_only=True)["state"]
    assert pickle.dumps(read) == pickle.dumps(value)
