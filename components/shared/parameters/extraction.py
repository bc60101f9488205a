"""How gradients are projected and stored."""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field

from gradsift.components.shared.parameters.data import SEPARATOR
from gradsift.components.shared.parameters.settings import MAX_SEED, Settings
from gradsift.components.shared.parameters.training import Precision, Scope

MAX_CLUSTERS, MIN_CLUSTER_ROWS = 50, 20
"""Largest number of clusters of a source, and smallest number of rows of a cluster."""


def cluster_name(source: str, number: int) -> str:
    """Return the name of a cluster as a source."""
    return f"{source}{SEPARATOR}{number:02d}"


class ExtractionSettings(Settings):
    """How gradients are projected and stored."""

    GROUP: ClassVar[str] = "extract"

    dimension: int = Field(
        400, ge=1, le=10**6, description="d, numbers per projected gradient; a multiple of `blocks`."
    )
    blocks: int = Field(
        4,
        ge=1,
        le=1000,
        description="independent projection blocks; their spread is the projection's standard error.",
    )
    probes: int = Field(
        1, ge=1, le=1000, description="R, gradients per example under labels sampled from the model."
    )
    projection_width: int = Field(
        8192,
        ge=1,
        le=10**7,
        description="m, width of the folded gradient before the dense product; at least `dimension`.",
    )
    parameters: Literal["shared", "trained"] = Field(
        "shared",
        description="whose gradient it is: `shared` takes the trained parameters that all tasks share, "
        "`trained` a trained head's too.",
    )
    tokens_per_batch: int = Field(
        2048,
        ge=1,
        le=10**8,
        description="padded tokens computed at a time; decides memory and speed, not the result. Halved when"
        " a GPU's memory does not suffice. For a row with more tokens, the backward pass recomputes layers and "
        "scores, which saves memory and takes up to twice the time.",
    )
    shard_rows: int = Field(
        4096,
        ge=1,
        le=10**6,
        description="rows per shard, 4096 to 16384 for large data; a killed process repeats at most one "
        "shard.",
    )
    dtype: Literal["float16", "float32"] = Field(
        "float16", description="type of the stored gradients, `float16` (with a scale) or `float32`."
    )
    hidden_states: bool = Field(
        False,
        description="store each row's mean-pooled last hidden state too, for comparing rows by similarity.",
    )
    base_weights: bool = Field(
        False,
        description="write a second store at the pretrained weights, which `simulated` blends in and calibration "
        "runs may choose for the other estimators; twice the time.",
    )
    precision: Precision = Field(
        "auto", description="`auto` is bf16 where the hardware multiplies it fast, else float32."
    )
    processes: int = Field(
        0,
        ge=0,
        le=1000,
        description="processes per pod that compute shards; 0 means one per GPU, or one on a machine without"
        " GPUs.",
    )
    pods: int = Field(
        1,
        ge=1,
        le=1000,
        description="pods that share the work, each with the resources of a training step; more than 1 are the "
        "nodes of a Kubeflow TrainJob.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="decides the projection and the sampled labels.")
    cluster_sources: int = Field(
        0,
        ge=0,
        le=MAX_CLUSTERS,
        exclude_if=lambda clusters: clusters == 0,
        description="largest number of clusters that each source is cut into, by the gradients of its rows. Each "
        f"cluster is a source of its own with at least {MIN_CLUSTER_ROWS} rows, so small sources get fewer. 0 cuts "
        "none.",
    )

    def clusters_of(self, rows: int) -> int:
        """Return the largest number of clusters for a source with so many rows; 1 leaves it whole."""
        return max(1, min(self.cluster_sources, rows // MIN_CLUSTER_ROWS))

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if self.dimension % self.blocks:
            yield (
                f"Parameter extract_dimension is {self.dimension}: expected a multiple of the {self.blocks} blocks."
            )
        if self.projection_width < self.dimension:
            yield (
                f"Parameter extract_projection_width is {self.projection_width}: expected at least "
                f"extract_dimension ({self.dimension})."
            )


class GradientExtractionConfig(ExtractionSettings):
    """The extraction's settings, with what follows from those of fine-tuning."""

    scope: Scope = Field(
        "all",
        exclude_if=lambda scope: scope == "all",
        description="the layers whose gradients are stored: those that the runs train.",
    )

    @classmethod
    def of(cls, settings: ExtractionSettings, scopes: list[Scope]) -> Self:
        """Return the settings with the scope of the runs; where there are several, with all layers."""
        return cls(**settings.model_dump(), scope=scopes[0] if len(scopes) == 1 else "all")
