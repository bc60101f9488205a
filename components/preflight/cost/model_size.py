"""Floating-point operations of a model, counted from its parameters.

A token takes 2N operations forward, one multiplication and one addition for each of the N parameters that it
passes: all but the embedding tables and the output layer (Kaplan et al., 2020, arXiv 2001.08361, section 2.1). The
backward pass takes as many for the activations' gradients, and 2T for those of the T parameters that are trained:
6N in all where every parameter is trained, about 4N where LoRA adapters are. In L layers of width w, attention adds
4 L t w forward in a row of t tokens and twice as much backward (Chowdhery et al., 2022, arXiv 2204.02311, appendix
B).
"""

from dataclasses import dataclass
from typing import Any

from torch import device, nn
from transformers import PreTrainedConfig

from gradsift.components.preflight.outlines import network_of, outline
from gradsift.components.shared.data.prepared_data import TaskIndex
from gradsift.components.shared.models.base_model import find_tokenizer
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.library_errors import library_errors
from gradsift.components.shared.models.model_files import open_config, open_tokenizer
from gradsift.components.shared.models.model_kind import ModelKind, kind_of
from gradsift.components.shared.models.prompt_format import PromptFormat
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.model import ModelConfig


@dataclass(frozen=True)
class ModelSize:
    """What decides the floating-point operations of a model.

    Attributes:
        kind: what the base model is.
        parameters: of the whole model.
        passed: N, those that a token passes.
        trained: T, those of them that are trained.
        layers: L; 0 where it is unknown, which leaves attention out.
        width: w, of the hidden states.
    """

    kind: ModelKind
    parameters: int
    passed: float
    trained: float
    layers: int = 0
    width: int = 0

    def forward(self, tokens: float, length: float) -> float:
        """Return the operations of a forward pass of so many tokens, in rows of this mean length."""
        return tokens * (2 * self.passed + 4 * self.layers * length * self.width)

    def backward(self, tokens: float, length: float) -> float:
        """Return the operations of a backward pass, without the forward pass before it."""
        activations = 2 * self.passed + 8 * self.layers * length * self.width
        return tokens * (activations + 2 * self.trained)


def model_outline(model: ModelConfig, data: TaskIndex) -> TaskModel:
    """Return the model of a run on PyTorch's meta device, without weights: its sizes and how it encodes rows.

    Args:
        model: the settings of the model.
        data: the tasks.

    Raises:
        InputError: the base model is not found or cannot be used.
    """
    name, model = model.base_model, model.resolved(data.max_length)
    folder = find_tokenizer(name).folder
    kind = kind_of(folder, name)
    tokenizer = open_tokenizer(folder, name, pads=kind == "encoder")
    chat = False
    if kind != "encoder":
        chat = PromptFormat.of(tokenizer, kind == "seq2seq", model.prompt_form, model.max_length, name).chat
    labels = {task.name: task.labels for task in data.tasks}
    with library_errors(f"The config.json of the base model {name!r} describes no model that can be used"):
        with device("meta"):
            network = network_of(kind, open_config(folder, name))
            return outline(network, model, kind, tokenizer, data.target, labels, chat)


def size_of(outlined: TaskModel, train_embeddings: bool) -> ModelSize:
    """Return the size of a model that has no weights."""
    if not train_embeddings:
        outlined.freeze_embeddings()
    network: Any = outlined.lm if isinstance(outlined, LanguageModel) else outlined.encoder
    config: PreTrainedConfig = network.config.get_text_config()
    tables = [each for each in network.modules() if isinstance(each, nn.Embedding)]
    aside = {id(each) for module in (*tables, _output_layer(network)) for each in module.parameters()}
    passed = [each for each in network.parameters() if id(each) not in aside]
    # A row's prompt passes the encoder of a sequence-to-sequence model, its answer the decoder.
    share = 0.5 if config.is_encoder_decoder else 1.0
    return ModelSize(
        kind=_kind(outlined),
        parameters=sum(each.numel() for each in network.parameters()),
        passed=share * sum(each.numel() for each in passed),
        trained=share * sum(each.numel() for each in passed if each.requires_grad),
        layers=getattr(config, "num_hidden_layers", 0),
        width=outlined.hidden_size,
    )


def _kind(outlined: TaskModel) -> ModelKind:
    if not isinstance(outlined, LanguageModel):
        return "encoder"
    return "seq2seq" if outlined.settings.encoder_decoder else "causal"


def _output_layer(network: Any) -> nn.Module:
    layer: nn.Module | None = (
        network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None
    )
    return layer or nn.Identity()
