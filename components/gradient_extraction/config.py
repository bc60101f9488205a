"""Settings of the gradient extraction."""

from dataclasses import dataclass

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.training_recipe import PRECISIONS

CHOICES: dict[str, tuple[str, ...]] = {
    "parameters": ("shared", "trained"),
    "dtype": ("float16", "float32"),
    "precision": PRECISIONS,
}


@dataclass(frozen=True)
class GradientExtractionConfig:
    """How gradients are projected and stored.

    Attributes:
        dimension: d, numbers a projected gradient; a multiple of `blocks`.
        blocks: independent projection blocks; their spread is the projection's standard error.
        probes: R, gradients under labels sampled from the model, an example.
        projection_width: m, width of the folded gradient before the dense product; at least `dimension`.
        parameters: whose gradient it is: `shared` takes the trained parameters that all tasks share, `trained` a
            trained head's too.
        tokens_per_batch: padded tokens computed at a time; decides memory and speed, not the result. Halved when
            a GPU's memory does not suffice.
        shard_rows: rows of a shard, 4096 to 16384 for large data; a killed process repeats at most one.
        dtype: type of the stored gradients, `float16` (with a scale) or `float32`.
        hidden_states: store each row's mean-pooled last hidden state too, for comparing rows by similarity.
        precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        processes: number of processes of a pod that compute shards; 0 is one a GPU, and one on a machine without.
        pods: number of pods that share the work, each with the resources of a training step.
        seed: decides the projection and the sampled labels.
    """

    dimension: int = 400
    blocks: int = 4
    probes: int = 1
    projection_width: int = 8192
    parameters: str = "shared"
    tokens_per_batch: int = 2048
    shard_rows: int = 4096
    dtype: str = "float16"
    hidden_states: bool = False
    precision: str = "auto"
    processes: int = 0
    pods: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (
            "dimension",
            "blocks",
            "probes",
            "projection_width",
            "tokens_per_batch",
            "shard_rows",
            "pods",
        )
        for name in counts:
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
        for name, values in CHOICES.items():
            if getattr(self, name) not in values:
                raise InputError(
                    f"Parameter {name} is {getattr(self, name)!r}: expected one of {', '.join(values)}."
                )
        for name in ("processes", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"Parameter {name} is {getattr(self, name)}: expected 0 or more.")
