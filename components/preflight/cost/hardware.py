"""How fast the pods of a run are assumed to compute."""

from dataclasses import dataclass

from gradsift.components.shared.parameters.kubernetes import ResourcesConfig

PEAK_TFLOPS, UTILISATION = 312.0, 0.4
"""Peak of an A100 in bf16, and about the share of it that large models are trained at."""


@dataclass(frozen=True)
class Hardware:
    """How fast the pods compute.

    Attributes:
        resources: what they request.
        peak_tflops: 10^12 floating-point operations per second, at most, of a GPU, or of a pod's CPU without GPUs.
        utilisation: the share of that which is reached.
    """

    resources: ResourcesConfig
    peak_tflops: float = PEAK_TFLOPS
    utilisation: float = UTILISATION

    @property
    def device(self) -> str:
        """What computes: `GPU` or `CPU`."""
        return "GPU" if self.resources.gpus else "CPU"

    def seconds(self, operations: float) -> float:
        """Return the time of one device for so many floating-point operations."""
        return operations / (1e12 * self.peak_tflops * self.utilisation)
