"""Which floating-point precision a machine computes fast in, and how."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradsift.components.shared.parameters.training import Precision


def resolve_precision(precision: Precision) -> Literal["bf16", "float32"]:
    """Replace `auto` by `bf16` where the GPU or the CPU multiplies bfloat16 matrices in hardware."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bf16" if _cpu_features() & {"amx_bf16", "avx512_bf16"} else "float32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the autocast context of a precision on a device; weights and sums stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=resolve_precision(precision) == "bf16")


def fast_attention(device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which attention is fast, forward and backward.

    PyTorch's fused attention has a bfloat16 backward pass that is ten times slower than plain matrix products on
    CPUs with AVX-512 BF16 but without AMX.
    """
    slow = device.type == "cpu" and torch.is_autocast_enabled("cpu") and "amx_bf16" not in _cpu_features()
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


@cache
def _cpu_features() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), []))
