"""How models are trained: settings of all training, of meta-training, and of fine-tuning."""

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gradsift.components.shared.parameters.settings import (
    MAX_COUNT,
    MAX_SEED,
    Settings,
    SettingsError,
    form_field,
    repeated,
)

Precision = Literal["auto", "bf16", "float32"]
Start = Literal["base", "meta"]
Offload = Literal["none", "optimizer", "parameters"]
Scope = Literal["all", "early", "middle", "late", "embeddings", "head"]

LARGE_MODEL = 10**9
"""Parameters from which on gradient checkpointing is on by itself."""
MAX_PARALLEL_RUNS = 2
"""Each group is an iteration of two loops in the workflow, which Argo limits to 1 MiB."""

EPOCHS = "passes over the rows; used where `steps` is 0."
STEPS = "optimizer steps, whatever the number of rows; 0 lets `epochs` decide."
LEARNING_RATE = "peak of AdamW's learning rate, reached after a tenth of the steps, then linear to zero."


class TrainingSettings(Settings):
    """What all training has in common."""

    GROUP: ClassVar[str] = "train"

    batch_size: int = Field(32, ge=1, le=10**6, description="rows per optimizer step, over all processes.")
    micro_batch_size: int = Field(
        0,
        ge=0,
        le=10**6,
        description="largest number of rows that a process takes through the model at once; gradients add up over "
        "the rows of an optimizer step. 0 takes as many as fit into memory.",
    )
    weight_decay: float = Field(0.01, ge=0, le=1e3, description="AdamW's weight decay.")
    zero_stage: int = Field(
        -1,
        ge=-1,
        le=3,
        description="DeepSpeed's ZeRO stage, 0 to 3; -1 takes the lowest whose weights, gradients and "
        "optimizer states fit into the GPUs' memory.",
    )
    offload: Literal["auto", "none", "optimizer", "parameters"] = Field(
        "auto",
        description="what ZeRO keeps in the CPU's memory: `none`; `optimizer` states, from stage 1 on; "
        "`parameters` too, at stage 3; or `auto`, what does not fit into the GPUs' memory.",
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="`on` recomputes activations in the backward pass, which takes a third more time and far"
        " less memory; `off` keeps them; `auto` is on for models of a billion parameters and "
        "more.",
    )
    precision: Precision = Field(
        "auto", description="`auto` is bf16 where the hardware multiplies it fast, else float32."
    )
    nodes: int = form_field(
        "train_nodes",
        1,
        description="machines that train together, through a Kubeflow TrainJob; 1 trains in the step's own "
        "pod.",
        ge=1,
        le=1000,
    )
    processes: int = Field(
        0,
        ge=0,
        le=1000,
        description="training processes per node; 0 means one per GPU, or one on a machine without GPUs.",
    )
    checkpoint_steps: int = Field(
        200,
        ge=1,
        le=MAX_COUNT,
        description="optimizer steps between checkpoints, from which a killed training continues.",
    )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        yield from super().rules()
        lowest = {"optimizer": 1, "parameters": 3}.get(self.offload, 0)
        if 0 <= self.zero_stage < lowest:
            yield (
                f"Parameter train_zero_stage is {self.zero_stage}: expected {lowest} or more where train_offload "
                f"is {self.offload!r}."
            )
        if self.processes:
            yield from self.batch_problems(self.nodes * self.processes)

    def recomputes_activations(self, parameters: int) -> bool:
        """Return whether a model with that many parameters recomputes its activations in the backward pass."""
        return self.gradient_checkpointing == "on" or (
            self.gradient_checkpointing == "auto" and parameters >= LARGE_MODEL
        )

    def batch_problems(self, processes: int) -> Iterator[str]:
        """Yield a sentence where that many processes cannot share a batch evenly."""
        if self.batch_size % processes:
            yield (
                f"Parameter train_batch_size is {self.batch_size}: expected a multiple of the {processes} "
                "processes."
            )


class ParallelRunsSettings(Settings):
    """How many fine-tuning runs are trained at the same time: it decides when they end, not what they give."""

    GROUP: ClassVar[str] = "train"

    parallel_runs: int = Field(
        1,
        ge=1,
        le=MAX_PARALLEL_RUNS,
        description="groups of fine-tuning runs that are trained at the same time on a cluster, each on GPUs "
        "of its own; a local run trains one after the other.",
    )


class ScheduleSettings(Settings):
    """How long and how fast a model is trained, and on which order of rows."""

    epochs: float = Field(2.0, ge=0, le=1e4, description=EPOCHS)
    steps: int = Field(0, ge=0, le=MAX_COUNT, description=STEPS)
    learning_rate: float = Field(1e-4, gt=0, le=10, description=LEARNING_RATE)
    sampling_exponent: float = Field(
        1.0,
        ge=0,
        le=1,
        description="a task with n rows is drawn with a weight of n to this power: 1 takes all rows equally "
        "often, 0 takes all tasks equally often.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="decides the order of the rows and dropout.")

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if self.steps == 0 and self.epochs == 0:
            name = self.full_name("epochs")
            yield f"Parameter {name} is {self.epochs}: expected a number above 0, as the number of steps is 0."


class MetaTrainingSettings(ScheduleSettings):
    """Meta-training: the one training on everything."""

    GROUP: ClassVar[str] = "meta"


class FineTuningSettings(ScheduleSettings):
    """Fine-tuning: short and gentle, and counted in steps so that every comparison costs the same."""

    GROUP: ClassVar[str] = "fine_tune"

    epochs: float = Field(3.0, ge=0, le=1e4, description=EPOCHS)
    steps: int = form_field("fine_tune_steps", 40, description=STEPS, ge=0, le=MAX_COUNT)
    learning_rate: float = Field(5e-5, gt=0, le=10, description=LEARNING_RATE)


class FineTuningStart(Settings):
    """Which weights fine-tuning starts from; no part of the recipe, which meta-training has too."""

    GROUP: ClassVar[str] = "fine_tune"

    start: Start = form_field(
        "fine_tune_start",
        "base",
        description="the weights that every fine-tuning run starts from: `base`, the pretrained ones, or `meta`, "
        "those that meta-training left, which have seen every source.",
    )


class FineTuningLayers(Settings):
    """Which layers fine-tuning trains, and how fast: one way, or several that validation rows decide among."""

    GROUP: ClassVar[str] = "fine_tune"

    scopes: list[Scope] = Field(
        ["all"],
        min_length=1,
        exclude_if=lambda scopes: scopes == ["all"],
        description="which layers are trained, the others frozen: `all`; `early`, `middle` or `late`, a third "
        "of them each; `embeddings`; or `head`, a language model's output layer and final norm. Where there are "
        "several, each of them is tried on the chosen sources, and validation rows decide; runs before that "
        "take the first.",
    )
    rates: list[Annotated[float, Field(gt=0, le=10)]] = Field(
        [],
        exclude_if=lambda rates: not rates,
        description="peak learning rates that are tried with every scope, as a part of the layers may want "
        "another rate than all; runs before that take the first. Empty takes `fine_tune_learning_rate`.",
    )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        yield from repeated("fine_tune_scopes", self.scopes, "scope")
        yield from repeated("fine_tune_rates", self.rates, "rate")


class TrainingRecipe(TrainingSettings, ScheduleSettings):
    """One training: how long, how fast, on what hardware layout, and of which layers."""

    GROUP: ClassVar[str] = ""

    scope: Scope = Field(
        "all",
        exclude_if=lambda scope: scope == "all",
        description="which layers are trained (see `tune_scope`).",
    )

    def check_batch(self, processes: int) -> None:
        """Raise SettingsError where that many processes cannot share a batch evenly."""
        if problems := list(self.batch_problems(processes)):
            raise SettingsError(problems)

    def optimizer_steps(self, rows: int) -> int:
        """Return the number of optimizer steps on `rows` training rows."""
        return self.steps or max(1, math.ceil(rows * self.epochs / self.batch_size))

    def rows_at_once(self, processes: int, parts: int) -> int:
        """Return the size of a micro-batch: the most rows that divide a process's rows of a step evenly.

        Args:
            processes: how many share a step's rows.
            parts: into how many micro-batches they are divided at least.
        """
        rows = self.batch_size // processes
        most = min(rows // parts, self.micro_batch_size or rows)
        return next((size for size in range(most, 1, -1) if rows % size == 0), 1)

    @classmethod
    def of(cls, training: TrainingSettings, schedule: ScheduleSettings) -> "TrainingRecipe":
        """Return the recipe that all training's settings and one training's make together."""
        return cls(**training.model_dump(), **schedule.model_dump())
