"""The Hugging Face Trainer as jobs use it: what it minimises, how it fails, and which weights it saves."""

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from gradsift.components.shared.errors import BatchMemoryError
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.process.gpus import is_out_of_memory, others_hold_memory
from gradsift.components.shared.training.objective import MeanLoss, Objective


class JobTrainer(Trainer):
    """The Hugging Face Trainer: minimises an objective, reports a micro-batch that is too large, saves no weights.

    Attributes:
        may_divide: whether a micro-batch that does not fit into the GPU's memory may be divided.
        objective: what it minimises.
    """

    may_divide = False
    objective: Objective = MeanLoss()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the objective's loss of a micro-batch, with the model's outputs where they are asked for."""
        side = {name: inputs.pop(name) for name in self.objective.columns}
        mean_loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = self.objective.loss(mean_loss, Answers(outputs["logits"], outputs["label"]), side)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Take one micro-batch through the model.

        Raises:
            BatchMemoryError: it does not fit into the GPU's memory, and a smaller one may.
        """
        try:
            return super().training_step(*args, **kwargs)
        except RuntimeError as error:
            rows = self.args.per_device_train_batch_size
            divisible = self.may_divide and rows > 1
            if not divisible or not is_out_of_memory(error) or others_hold_memory(self.args.device):
                raise
            raise BatchMemoryError(f"{rows} rows at once do not fit into the GPU's memory.") from error

    def save_model(self, *_: Any, **__: Any) -> None:
        """Write no weights into a checkpoint beside those that DeepSpeed writes there."""


class FrozenWeightsCallback(TrainerCallback):
    """Leaves frozen weights out of checkpoints: they are those that training starts from (see `TaskModel`)."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Change how DeepSpeed saves, as the Trainer leaves frozen weights out for models of PEFT alone."""
        engine: Any = self.trainer.model_wrapped
        engine.save_checkpoint = partial(engine.save_checkpoint, exclude_frozen_parameters=True)
