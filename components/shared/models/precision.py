"""Which floating-point precision a machine computes fast in, and how."""

from functools import cache
from pathlib import Path
from typing import Literal

import torch

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


def has_amx() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices in tiles, which is fast for matrices of any size."""
    return "amx_bf16" in _cpu_features()


@cache
def _cpu_features() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), []))
