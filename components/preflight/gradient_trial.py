"""Takes the gradients of two rows on random weights of a base model's architecture, at a tiny size."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from gradsift.components.preflight.outlines import network_of, outline
from gradsift.components.shared.errors import GradsiftError, InputError
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.gradients.self_check import check_gradients
from gradsift.components.shared.models.library_errors import library_errors
from gradsift.components.shared.models.model_kind import ModelKind
from gradsift.components.shared.models.pretrained_language_model import check_usable
from gradsift.components.shared.models.task_model import Example, TaskModel
from gradsift.components.shared.models.tune_scope import parameters_in
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Scope

TEXTS = ("a few words", "this row has more words than the other one")
LABELS = {"trial": ["yes", "no"]}
MAX_LAYERS = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 4),
    **dict.fromkeys(("num_decoder_layers", "encoder_layers", "decoder_layers"), 4),
}
"""Most layers that are tried, so many that each kind is among them."""
MAX_WIDTHS = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim"), 32),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "n_inner", "d_ff", "ffn_dim", "ffn_hidden_size"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 64),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "rotary_dim"), 8),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
}
"""The largest sizes of a narrow network."""
MAX_GROUPS = 2
"""Heads of keys and values, where they are fewer than those of queries."""
MAX_BYTES = 12 * 10**7
"""Weights and constants of a network; more of them mean that a configuration has sizes by other names."""
NOISE = 0.1
"""Standard deviation of what is added to weights, for some start at 0 and would hide a wrong gradient."""
SKETCH_WIDTH = 2048
MAX_LENGTH = 64
"""Tokens of a row, where data preparation is to decide them; the rows have fewer."""


def try_gradients(
    model: ModelConfig,
    kind: ModelKind,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    scopes: Sequence[Scope] = ("all",),
) -> str:
    """Compare the gradients of two rows with those of plain backward passes.

    Args:
        model: the settings of the model.
        kind: what the base model is.
        config: its configuration.
        tokenizer: its tokenizer.
        scopes: the layers that are to be trained.

    Returns:
        What was found, in words; an architecture that cannot be made tiny is not tried.

    Raises:
        InputError: the gradients of rows cannot be taken apart or come out wrong, adapters cannot be put on, or
            a scope cannot be trained.
    """
    model = model.resolved(MAX_LENGTH)
    of_type = f"The base model {model.base_model!r} is of type {config.model_type!r}"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _answering_network(model, kind, config, tokenizer)
        if network is None:
            return "gradients of this type were not tried, as it cannot be made tiny"
        if kind == "causal":
            check_usable(network, model.base_model, encoder_decoder=False)
        trial = _trial_model(network, model, kind, tokenizer)
        with library_errors(f"{of_type}, and the library fails"):
            trial.freeze_untrained(model.train_embeddings)
        for scope in scopes:
            parameters_in(trial, scope, model.train_embeddings)
        try:
            with library_errors("The library fails"):
                _check_gradients(trial)
        except GradsiftError as error:
            raise InputError(
                f"{of_type}, expected one of the families that the README lists, as gradients of others may fail: "
                f"{error}"
            ) from error
    return "gradients of two rows are right at a tiny size"


def tiny_config(config: PreTrainedConfig, sizes: Mapping[str, int]) -> PreTrainedConfig:
    """Return a configuration of the same architecture with smaller sizes, and all of its vocabulary.

    Args:
        config: the configuration.
        sizes: the largest value of each field that is to be small.
    """
    tiny = copy.deepcopy(config)
    for part in (tiny, *(each for each in vars(tiny).values() if isinstance(each, PreTrainedConfig))):
        own = {name: size for name, size in vars(part).items() if type(size) is int}
        for name in own.keys() & sizes.keys():
            setattr(part, name, min(own[name], sizes[name]))
        groups, heads = own.get("num_key_value_heads"), own.get("num_attention_heads")
        if groups and heads and heads > part.num_attention_heads:
            part.num_key_value_heads = min(groups, MAX_GROUPS) if groups < heads else part.num_attention_heads
    if tiny.is_encoder_decoder and getattr(tiny, "decoder_start_token_id", None) is None:
        tiny.decoder_start_token_id = 0
    return tiny


def _answering_network(
    model: ModelConfig, kind: ModelKind, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> Any:
    """Return a small network of random weights that computes answers: narrow, or with a few of its own layers.

    Returns:
        The network, or None where a narrow one fails and the layers themselves are too large.

    Raises:
        InputError: the configuration describes no network, or one that computes no answers.
    """
    fault = f"The config.json of the base model {model.base_model!r} describes no model that can be used"
    shallow = tiny_config(config, MAX_LAYERS)
    with library_errors(fault), torch.device("meta"):
        total = _bytes(network_of(kind, shallow))
    narrow = tiny_config(config, MAX_LAYERS | MAX_WIDTHS)
    for small in (narrow, shallow):
        if small is shallow and total > MAX_BYTES:
            return None
        try:
            with library_errors(fault):
                with torch.device("meta"):
                    if _bytes(network_of(kind, small)) > MAX_BYTES:
                        continue
                network = network_of(kind, small)
                trial = _trial_model(network, model.model_copy(update={"lora_rank": 0}), kind, tokenizer)
                trial(**trial.collate(trial.examples_of(TEXTS)))
        except InputError:
            if small is shallow:
                raise
        else:
            return network
    return None


def _bytes(network: Any) -> int:
    return sum(each.nbytes for each in (*network.parameters(), *network.buffers()))


def _trial_model(
    network: Any, model: ModelConfig, kind: ModelKind, tokenizer: PreTrainedTokenizerBase
) -> TaskModel:
    """Return the network as the model of a run, its weights away from the zeros that some start at."""
    trial = outline(network, model, kind, tokenizer, "trial", LABELS)
    with torch.no_grad():
        for parameter in trial.parameters():
            parameter.add_(NOISE * torch.randn_like(parameter))
    return trial.eval()


def _check_gradients(trial: TaskModel) -> None:
    names = [name for name, parameter in trial.named_parameters() if parameter.requires_grad]
    sketcher = GradientSketcher(trial, names, dimension=8, width=SKETCH_WIDTH, seed=0)
    examples = trial.examples_of(TEXTS)

    def losses(part: list[Example]) -> Tensor:
        return trial.answers(trial.batch(part)).losses()

    singles = [partial(lambda row: losses([row]).sum(), row) for row in examples]
    check_gradients(sketcher, trial, singles, lambda: losses(examples))
