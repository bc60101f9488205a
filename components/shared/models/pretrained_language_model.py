"""Loads a pretrained language model, and says what its type takes and needs."""

import inspect
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedTokenizerBase,
)

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.model_files import open_tokenizer
from gradsift.components.shared.models.model_weights import load_weights
from gradsift.components.shared.models.task_model import pretrained_in


def load_language_model(
    folder: Path, name: str, encoder_decoder: bool
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a language model (safetensors only, no remote code) and its tokenizer from a folder.

    Of the folder's generation settings, the model keeps only the special tokens: penalties, forced or suppressed
    tokens and the like would change what greedy decoding writes.

    Raises:
        InputError: the files do not make such a model with a tokenizer, or it is of a type that cannot be used.
    """
    form = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    lm = load_weights(form, folder, name, "a language model")
    tokenizer = open_tokenizer(folder, name, pads=False)
    lm.generation_config = GenerationConfig(
        bos_token_id=lm.generation_config.bos_token_id,
        eos_token_id=lm.generation_config.eos_token_id,
        pad_token_id=lm.generation_config.pad_token_id,
        decoder_start_token_id=decoder_start_of(lm),
    )
    check_usable(lm, name, encoder_decoder)
    return lm, tokenizer


def takes_positions(lm: nn.Module) -> bool:
    """Return whether a model takes each token's position; one with ALiBi reads it off the attention mask."""
    return "position_ids" in _arguments(lm)


def decoder_start_of(lm: Any) -> int | None:
    """Return the token that a sequence-to-sequence model's answers start from, None where there is none."""
    start: int | None = lm.generation_config.decoder_start_token_id
    return getattr(lm.config, "decoder_start_token_id", None) if start is None else start


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the tokenizer's padding token, or its end of sequence: what stands at padding is never looked at."""
    padding = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if padding is None else padding)


def check_usable(lm: Any, name: str, encoder_decoder: bool) -> None:
    """Check that a model's answers can be scored as they are trained.

    Raises:
        InputError: it does not say what answers start from, or cannot compute scores for answers alone.
    """
    if encoder_decoder and decoder_start_of(lm) is None:
        raise InputError(f"The base model {name!r} names no decoder_start_token_id in its config.json.")
    if not encoder_decoder and "logits_to_keep" not in _arguments(lm):
        raise InputError(
            f"The base model {name!r} is of type {lm.config.model_type!r}, which cannot compute scores for answers "
            "alone: expected another causal language model."
        )


def _arguments(lm: nn.Module) -> set[str]:
    """Return the names of what the model itself takes, whatever adapters are around it."""
    return set(inspect.signature(pretrained_in(lm).forward).parameters)
