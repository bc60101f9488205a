"""Which kind of model a base model is, read off its configuration."""

from pathlib import Path
from typing import Literal

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.model_files import open_config

ModelKind = Literal["encoder", "causal", "seq2seq"]
LANGUAGE_MODEL = "language_model.json"
"""The file in a trained model's folder that says it is a language model, and how it is asked."""


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
    elif config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal"
    raise InputError(
        f"The base model {name!r} is of type {config.model_type!r}: expected an encoder, a causal language "
        "model or a sequence-to-sequence language model of transformers."
    )
