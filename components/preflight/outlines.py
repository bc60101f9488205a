"""Models of a base model's architecture without its weights: random ones, or none on PyTorch's meta device."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from gradsift.components.shared.models.base_model import BaseModel
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.language_model import LanguageModel, Settings
from gradsift.components.shared.models.lora import add_adapter
from gradsift.components.shared.models.model_kind import ModelKind
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.model import ModelConfig


def network_of(kind: ModelKind, config: PreTrainedConfig) -> Any:
    """Return a network of a configuration, on PyTorch's current device."""
    form: Any = {"encoder": AutoModel, "causal": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}[kind]
    network = form.from_config(config, trust_remote_code=False, dtype=torch.float32)
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    return network


def outline(
    network: Any,
    model: ModelConfig,
    kind: ModelKind,
    tokenizer: PreTrainedTokenizerBase,
    target: str,
    labels: Mapping[str, list[str]],
    chat: bool = False,
) -> TaskModel:
    """Return a network as the model of a run.

    Args:
        network: see `network_of`.
        model: the settings of the model.
        kind: what the base model is.
        tokenizer: its tokenizer.
        target: name of the target task.
        labels: for each task its label names.
        chat: whether a language model is asked by the tokenizer's chat template.

    Raises:
        InputError: adapters cannot be put on.
    """
    if kind == "encoder":
        head = Head.for_tasks(model.head, model.score_scale, model.max_length, target, labels)
        weight = torch.zeros(len(head.classes), network.config.hidden_size)
        bias = weight[:, 0] if head.kind == "linear" else None
        return EncoderClassifier(network, tokenizer, head, weight, bias)
    if model.lora_rank:
        base = BaseModel(model.base_model, Path(), "", "")
        network = add_adapter(network, base, model, "SEQ_2_SEQ_LM" if kind == "seq2seq" else "CAUSAL_LM")
    settings = Settings(
        base_model=model.base_model,
        base_digest="",
        encoder_decoder=kind == "seq2seq",
        chat=chat,
        max_length=model.max_length,
        target=target,
        labels=dict(labels),
        adapter=model.lora_rank > 0,
    )
    return LanguageModel(network, tokenizer, settings)
