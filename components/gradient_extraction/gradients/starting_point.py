"""The weights that a model's training started from: what the model answered with them, and how far it has moved."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradsift.components.shared.models.task_model import Batch, TaskModel


class StartingPoint:
    """A model's trained parameters as they were before training; the others are the model's own.

    Attributes:
        squared_step_norm: |theta* - theta0|^2 over the trained parameters.
    """

    def __init__(self, model: TaskModel, start: Mapping[str, Tensor]) -> None:
        """Take a model at theta*, before anything is frozen for the gradients.

        Args:
            model: the model; what is trained requires gradients.
            start: parameters at theta0 by their names in the model, the trained ones among them.
        """
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.squared_step_norm = sum(_squared_distance(value, start[name]) for name, value in trained.items())
        self._margins = _Margins(model)
        self._start = {f"model.{name}": start[name].detach().to(model.device) for name in trained}

    @torch.no_grad()
    def margins(self, batch: Batch) -> Tensor:
        """Return the margins [n] of a batch's right answers at theta0, by one forward pass."""
        margins: Tensor = functional_call(self._margins, self._start, (batch,))
        return margins


class _Margins(nn.Module):
    """A model that returns its margins, and computes no losses beside them."""

    def __init__(self, model: TaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return self.model.answers(batch).margins()


def _squared_distance(one: Tensor, other: Tensor) -> float:
    """Return the squared distance of two tensors, summed by NumPy: in one order, whatever the number of threads."""
    step = (one.detach().cpu() - other.detach().cpu()).numpy()
    return float(np.square(step).sum(dtype=np.float64))
