"""How a training's memory is spread over processes and the CPU: ZeRO's stage and what it offloads."""

from dataclasses import dataclass
from typing import Any

from gradsift.components.shared.parameters.training import Offload, TrainingRecipe

BYTES = 4
"""Of a trained weight, its gradient and each of Adam's two moments: all are float32."""
SHARE = 0.7
"""The share of a GPU's memory that weights, gradients and optimizer states may take; activations need the rest."""


@dataclass(frozen=True)
class Sharding:
    """ZeRO's stage (0 to 3) and what it keeps in the CPU's memory."""

    stage: int
    offload: Offload

    def bytes_on_gpu(self, trained: int, frozen_bytes: int, processes: int) -> float:
        """Return the bytes of weights, gradients and optimizer states that each GPU holds.

        Stage 1 divides the optimizer states among the processes, stage 2 gradients too, stage 3 weights too.

        Args:
            trained: number of parameters that are trained.
            frozen_bytes: size of the others.
            processes: number of processes, one a GPU.
        """
        own = BYTES * trained
        weights = (own + frozen_bytes) / (processes if self.stage == 3 else 1)
        gradients = own / (processes if self.stage >= 2 else 1)
        states = 2 * own / (processes if self.stage >= 1 else 1)
        kept = gradients
        if self.offload != "parameters":
            kept += weights
        if self.offload == "none":
            kept += states
        return kept

    def deepspeed_config(self) -> dict[str, Any]:
        """Return the part of DeepSpeed's configuration that says so.

        An offloaded optimizer stays PyTorch's: DeepSpeed's own has to be compiled where it runs.
        """
        zero: dict[str, Any] = {"stage": self.stage}
        if self.stage == 3:
            zero["stage3_gather_16bit_weights_on_model_save"] = True
        if self.offload != "none":
            zero["offload_optimizer"] = {"device": "cpu"}
        if self.offload == "parameters":
            zero["offload_param"] = {"device": "cpu"}
        return {"zero_optimization": zero, "zero_force_ds_cpu_optimizer": False}


FASTEST_FIRST = [
    Sharding(0, "none"),
    Sharding(1, "none"),
    Sharding(2, "none"),
    Sharding(3, "none"),
    Sharding(1, "optimizer"),
    Sharding(2, "optimizer"),
    Sharding(3, "optimizer"),
    Sharding(3, "parameters"),
]


def choose_sharding(
    recipe: TrainingRecipe, trained: int, frozen_bytes: int, processes: int, gpu_bytes: int | None
) -> Sharding:
    """Return the fastest sharding that a recipe allows and that fits, or the one that needs the least memory.

    Args:
        recipe: which stage and offload are asked for, if any.
        trained: number of parameters that are trained.
        frozen_bytes: size of the others.
        processes: number of processes, one a GPU.
        gpu_bytes: memory of a GPU; None computes on the CPU, where everything fits or nothing does.
    """
    allowed = [
        each
        for each in FASTEST_FIRST
        if recipe.zero_stage in {-1, each.stage} and recipe.offload in {"auto", each.offload}
    ]
    for each in allowed:
        if gpu_bytes is None or each.bytes_on_gpu(trained, frozen_bytes, processes) <= SHARE * gpu_bytes:
            return each
    return allowed[-1]
