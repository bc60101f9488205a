"""All that gradsift uses of DeepSpeed's internals; as of DeepSpeed 0.19.8."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let imports of a module fail in the block, unless it is there already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


# DeepSpeed's autotuner, unused here, takes MLflow where it can: a second of every process's start.
with _without("mlflow"):
    import deepspeed
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

CHECKPOINT_CLASSES: list[type] = [LossScaler, ZeroStageEnum, fragment_address]
"""The classes that DeepSpeed pickles into checkpoints of ZeRO's stages beside tensors and plain values.

`torch.load` refuses any other class where it reads weights only. DeepSpeed asks for a full unpickling instead, and
has no list of these classes.
"""


def use_gloo_between_cpu_processes() -> None:
    """Keep DeepSpeed from compiling its shared-memory kernel, which takes minutes at the first use.

    `deepspeed.ops.__compatible_ops__` is private: the table of the operations that can be compiled here, which
    DeepSpeed looks up before it compiles this one. No setting or environment variable turns the kernel off.
    """
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
