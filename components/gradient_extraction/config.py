"""Settings of the gradient extraction."""

from dataclasses import dataclass

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.training_recipe import PRECISIONS


@dataclass(frozen=True)
class GradientExtractionConfig:
    """How gradients are projected and stored.

    Attributes:
        dimension: d, numbers a projected gradient; a multiple of `blocks`.
        blocks: independent projection blocks; their spread is the projection's standard error.
        probes: R, gradients under labels sampled from the model, an example.
        projection_width: m, width of the folded gradient before the dense product; at least `dimension`.
        tokens_per_batch: padded tokens computed at a time; decides memory and speed, not the result.
        shard_rows: rows of a shard; a killed extraction repeats at most one.
        precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        seed: decides the projection and the sampled labels.
    """

    dimension: int = 400
    blocks: int = 4
    probes: int = 1
    projection_width: int = 8192
    tokens_per_batch: int = 2048
    shard_rows: int = 4096
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimension", "blocks", "probes", "projection_width", "tokens_per_batch", "shard_rows"):
            if getattr(self, name) < 1:
                raise InputError(f"Parameter {name} is {getattr(self, name)}: expected 1 or more.")
        if self.dimension % self.blocks:
            raise InputError(
                f"Parameter dimension is {self.dimension}: expected a multiple of the {self.blocks} blocks."
            )
        if self.projection_width < self.dimension:
            raise InputError(
                f"Parameter projection_width is {self.projection_width}: expected at least dimension "
                f"({self.dimension})."
            )
        if self.precision not in PRECISIONS:
            raise InputError(
                f"Parameter precision is {self.precision!r}: expected one of {', '.join(PRECISIONS)}."
            )
        if self.seed < 0:
            raise InputError(f"Parameter seed is {self.seed}: expected 0 or more.")
