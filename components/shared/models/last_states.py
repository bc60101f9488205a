"""A language model cut in two: what ends in its decoder's last hidden states, and the step from them to scores."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gradsift.components.shared.models.answers import Head
from gradsift.components.shared.models.task_model import pretrained_in


def run_without_scores(lm: Any, inputs: Mapping[str, Any]) -> tuple[Any, Tensor, Head | None]:
    """Run a language model, but compute the scores of the last position alone.

    Args:
        lm: a model of transformers, with or without adapters.
        inputs: what it is called with.

    Returns:
        Its outputs, its decoder's last hidden states [n, T, h], and the head that computes scores from them by the
        model's own forward pass, in the precision of this call. A model that does not call its decoder computes all
        scores; they are returned in place of the states, float32 [n, C, V], without a head.
    """
    decoder = pretrained_in(lm).get_decoder()
    found: list[Any] = []

    def keep_last(_: Any, __: Any, outputs: Any) -> Any:
        found.append(outputs)
        return replace(outputs, last_hidden_state=outputs.last_hidden_state[:, -1:])

    with decoder.register_forward_hook(keep_last):
        outputs = lm(**inputs)
    if not found:
        return outputs, outputs.logits.float(), None
    states = found[0].last_hidden_state
    if "encoder_last_hidden_state" in outputs:
        inputs = {**inputs, "encoder_outputs": (outputs.encoder_last_hidden_state,)}
    scores = partial(_scores, lm, inputs, decoder, type(found[0]), _autocast_of(states.device.type))
    return outputs, states, Head(scores, outputs.logits.shape[2])


def _scores(
    lm: Any,
    inputs: Mapping[str, Any],
    decoder: Any,
    form: type,
    precision: torch.autocast,
    states: Tensor,
) -> Tensor:
    """Return the scores [n, c, V] of a language model whose decoder returns `states` without computing anything."""
    decoder.forward = lambda *_, **__: form(last_hidden_state=states)
    try:
        with precision:
            scores: Tensor = lm(**inputs).logits.float()
    finally:
        del decoder.forward
    return scores


def _autocast_of(device: str) -> torch.autocast:
    """Return the autocast context that is entered on a kind of device."""
    return torch.autocast(device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device))
