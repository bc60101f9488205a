"""Which floating-point precision a machine computes fast in."""

from pathlib import Path
from typing import Literal

import torch

from gradsift.components.shared.training_recipe import Precision


def resolve_precision(precision: Precision) -> Literal["bf16", "float32"]:
    """Replace `auto` by `bf16` where the GPU or the CPU multiplies bfloat16 matrices in hardware."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bf16" if _cpu_has_amx() else "float32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the autocast context of a precision on a device; weights and sums stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=resolve_precision(precision) == "bf16")


def _cpu_has_amx() -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and "amx_bf16" in info.read_text()
