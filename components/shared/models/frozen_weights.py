"""How the weights of a base that carries adapters are stored while the adapters are trained or differentiated."""

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.precision import resolve_precision
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.training import Precision


def store_base_as_computed(model: TaskModel, precision: Precision) -> None:
    """Store an adapter's base in bfloat16 where autocast multiplies in it; every result is the same to the bit.

    Autocast rounds the weights of linear layers to bfloat16 for each product. Rounded once, they take half the
    memory, and the backward pass holds no second copy. All other weights stay in float32; so does a token embedding
    that is also the output layer. From then on the model has to run under autocast.

    Args:
        model: the model; one without adapters is left as it is, since its frozen weights are saved with it.
        precision: what it will compute in.
    """
    if resolve_precision(precision) != "bf16" or not isinstance(model, LanguageModel):
        return
    if not model.settings.adapter:
        return
    linear = [module for module in model.modules() if _is_linear(module)]
    elsewhere = {
        id(parameter)
        for module in model.modules()
        if not _is_linear(module)
        for parameter in module.parameters(recurse=False)
    }
    for module in linear:
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad and id(parameter) not in elsewhere:
                parameter.data = parameter.data.to(torch.bfloat16)


def _is_linear(module: nn.Module) -> bool:
    """Return whether a module computes what autocast multiplies in bfloat16, and nothing else."""
    return type(module).forward in (nn.Linear.forward, Conv1D.forward)
