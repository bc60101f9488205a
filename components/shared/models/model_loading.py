"""Opens a model of whatever kind: a pretrained one by its configuration, a trained one by its folder."""

from pathlib import Path

import torch

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.model_files import open_config
from gradsift.components.shared.models.model_kind import LANGUAGE_MODEL, check_model_settings, kind_of
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.model import ModelConfig


def from_base(config: ModelConfig, data: PreparedData) -> TaskModel:
    """Return the pretrained model of a configuration, ready for the tasks of `data` and as many tokens as it says.

    Raises:
        InputError: the base model cannot be used, or not for these tasks.
    """
    base = find_base_model(config.base_model)
    kind = kind_of(base.folder, base.name)
    config = config.resolved(data.max_length)
    check_model_settings(config, kind, open_config(base.folder, base.name))
    if kind != "encoder":
        return LanguageModel.from_base(base, config, data)
    return EncoderClassifier.from_base(base, Head.of_config(config, data))


def before_training(config: ModelConfig, data: PreparedData, seed: int) -> TaskModel:
    """Return the model of a configuration as a training with this seed finds it.

    LoRA draws one of each adapter's two matrices; the other is zero, so that the model is the pretrained one.

    Raises:
        InputError: see `from_base`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return from_base(config, data)


def open_model(folder: Path) -> TaskModel:
    """Open what a model's `save` wrote, in evaluation mode.

    Raises:
        InputError: the weights that an adapter belongs to are not found.
    """
    if (folder / LANGUAGE_MODEL).exists():
        return LanguageModel.load(folder)
    return EncoderClassifier.load(folder)
