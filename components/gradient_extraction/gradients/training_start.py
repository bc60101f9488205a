"""What decides the weights that a training started from, read from what it left behind."""

from dataclasses import dataclass

from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.models.base_model import find_known_base_model
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.records.fine_tuning_runs import base_digests
from gradsift.components.shared.training.trained_model import training_result


@dataclass(frozen=True)
class TrainingStart:
    """What decides the weights that a training started from.

    Attributes:
        model: settings of the base model.
        seed: seed of the training, which drew LoRA's adapters.
    """

    model: ModelConfig
    seed: int

    @classmethod
    def of(cls, trained: StepOutput) -> "TrainingStart":
        """Return the start of the training that left a model."""
        result = training_result(trained)
        return cls(ModelConfig(**result["model"]), result["recipe"]["seed"])

    def check(self, trained: StepOutput) -> None:
        """Check that the base model is the one that the trained model came from.

        Raises:
            InputError: it is not found, or is another one by now.
        """
        find_known_base_model(self.model.base_model, *base_digests(trained))
