"""Which kind of model a base model is and what it can take, read off its configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.model_files import EXPERTS, open_config
from gradsift.components.shared.parameters.model import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ModelKind = Literal["encoder", "causal", "seq2seq"]
LANGUAGE_MODEL = "language_model.json"
"""The file in a trained model's folder that says it is a language model, and how it is asked."""

AFTER_PADDING = {
    "camembert",
    "data2vec-text",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
"""Types of models that count positions from the padding token's id on, so that the first ones are never used.

They are taken as encoders alone: a decoder would have to be given such positions, and transformers gives others.
"""


def kind_of(folder: Path, name: str) -> ModelKind:
    """Return `encoder`, `causal` or `seq2seq` for the base model called `name` in a folder.

    Raises:
        InputError: the base model is of another kind, or its configuration cannot be used.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    config = open_config(folder, name)
    if config.is_encoder_decoder:
        if config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            return "seq2seq"
    elif config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return "encoder"
    elif config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and config.model_type not in AFTER_PADDING:
        return "causal"
    raise InputError(
        f"The base model {name!r} is of type {config.model_type!r}: expected an encoder, a causal language "
        "model or a sequence-to-sequence language model of transformers."
    )


def max_tokens_of(config: "PreTrainedConfig") -> int | None:
    """Return the number of tokens that a model of this configuration takes, None where it takes any."""
    positions: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is None or config.model_type not in AFTER_PADDING:
        return positions
    return positions - (config.pad_token_id or 0) - 1


def check_model_settings(model: ModelConfig, kind: ModelKind, config: "PreTrainedConfig") -> None:
    """Check what is asked of a base model against its configuration.

    Raises:
        InputError: `max_length` is larger than the number of tokens that it takes, the gradients of its rows cannot
            be taken apart, or adapters are asked for on an encoder.
    """
    most = max_tokens_of(config)
    if most is not None and model.max_length > most:
        raise InputError(
            f"Parameter model_max_length is {model.max_length}: expected at most the {most} tokens that the base "
            f"model {model.base_model!r} takes."
        )
    if reason := _without_gradients(model, config):
        raise InputError(
            f"The base model {model.base_model!r} is of type {config.model_type!r}, {reason}: expected one of the "
            "families that the README lists."
        )
    if kind == "encoder" and model.lora_rank:
        raise InputError(
            f"Parameter model_lora_rank is {model.lora_rank}: expected 0, as the base model {model.base_model!r} "
            "is an encoder, which is trained whole."
        )


def _without_gradients(model: ModelConfig, config: "PreTrainedConfig") -> str | None:
    """Return why the gradients of a model's rows cannot be taken apart, None where that is not known."""
    text = config.get_text_config()
    if config.model_type == "opt" and not (model.lora_rank and model.lora_targets != "auto"):
        return "which takes the tokens of all rows together"
    if not model.lora_rank and any((getattr(text, name, None) or 0) > 1 for name in EXPERTS):
        return "a mixture of experts, which takes the tokens of all rows together"
    return None
