"""The GPUs of a pod: whether those that it was given are there, and who holds their memory."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradsift.components.shared.errors import GpuMemoryError, InputError

if TYPE_CHECKING:
    import torch

OWN_BYTES = 2 * 2**30
"""Memory that a process may hold beside PyTorch's tensors: the CUDA context, and buffers of NCCL and cuBLAS."""


def check_gpus(expected: int) -> None:
    """Check that PyTorch sees as many GPUs, so that no training goes on for a week on the CPU.

    Raises:
        InputError: there are fewer.
    """
    if expected == 0:
        return
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < expected:
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise InputError(
            f"This step was given {expected} GPUs by the run's settings but sees {found}: expected a node with the "
            "cluster's device plugin, GPUs that gpu_type and platform_node_selector name, and an image "
            f"whose PyTorch fits the node's driver (this one is built for {build})."
        )


@contextmanager
def gpu_memory_errors(device: "torch.device", advice: str) -> Iterator[None]:
    """Turn it into one sentence that GPU memory runs out in the block, and release what the block held.

    Args:
        device: where the block computes.
        advice: the sentence where no other process is to blame.

    Raises:
        GpuMemoryError: other processes hold memory of the GPU, and may leave.
        InputError: this process alone needs more than there is.
    """
    import torch

    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        torch.cuda.empty_cache()
        if others_hold_memory(device):
            raise GpuMemoryError(
                f"The memory of GPU {device.index or 0} is full, and other processes hold a part of it."
            ) from error
        raise InputError(advice) from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether GPU memory ran out: in PyTorch's allocator, or in CUDA, whose errors have another type."""
    return "out of memory" in str(error)


def others_hold_memory(device: "torch.device") -> bool:
    """Say whether other processes hold memory of the GPU."""
    import torch

    if device.type != "cuda":
        return False
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # there is no room for as much as this process's context
        return True
    return total - free - torch.cuda.memory_reserved(device) > OWN_BYTES
