"""Loads a base model's weights, whole and finite, as the kind of model that is wanted."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.attention import use_fast_attention
from gradsift.components.shared.models.library_errors import library_errors
from gradsift.components.shared.models.model_files import open_config

NOT_LEARNT = ("position_ids", "inv_freq", "masked_bias", ".attn.bias", ".attention.bias")
"""Ends of the names of constants that older files keep beside the weights."""


def load_weights(form: Any, folder: Path, name: str, wanted: str, optional: str = "") -> Any:
    """Return the model of the base model called `name` in a folder, in float32 (safetensors only, no remote code).

    Its attention is fast on this machine (see `attention`).

    Args:
        form: the class of transformers that loads it, such as `AutoModel`.
        folder: where its files are.
        name: its name, for errors.
        wanted: what the model is loaded as, for errors.
        optional: the beginning of the names of weights that may be missing.

    Raises:
        InputError: the files do not make such a model, a weight is missing or not finite, or the files have weights
            of a layer that the configuration does not have.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    use_fast_attention()
    config = open_config(folder, name)
    with library_errors(f"The base model {name!r} cannot be loaded as {wanted}"):
        model, loading = form.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(key for key in loading["missing_keys"] if not optional or not key.startswith(optional))
    if missing:
        raise InputError(f"The base model {name!r} has no weights for {missing[0]} ({len(missing)} missing).")
    left = sorted(key for key in loading["unexpected_keys"] if _belongs(key, model, optional))
    if left:
        raise InputError(
            f"The base model {name!r} has weights for {left[0]} ({len(left)} left over): expected a config.json "
            "that describes all layers."
        )
    for weight, values in model.named_parameters():
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"The weight {weight} of the base model {name!r} holds NaN or infinite numbers.")
    return model


def _belongs(key: str, model: PreTrainedModel, optional: str) -> bool:
    """Return whether a weight that the model does not take would be a part of it, and not of another head."""
    inner: nn.Module = getattr(model, model.base_model_prefix, model)
    own = key.removeprefix(f"{model.base_model_prefix}.")
    if own.endswith(NOT_LEARNT) or (optional and own.startswith(optional)):
        return False
    return own.partition(".")[0] in dict(inner.named_children())
