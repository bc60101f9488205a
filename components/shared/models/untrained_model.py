"""The base model as it is, in the form of a trained one: the weights that gradients may be taken at too."""

from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import INDEX, PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.model_kind import ModelKind, kind_of
from gradsift.components.shared.parameters.model import ModelConfig


def answers_untrained(model: ModelConfig, kind: ModelKind) -> bool:
    """Return whether the base model of a configuration answers before it is trained, as not every head does."""
    return kind != "encoder" or model.head == "label_embedding"


def produce_untrained_model(step: str, data: StepOutput, model: ModelConfig, root_uri: str) -> StepOutput:
    """Write the pretrained model, as `produce_trained_model` writes a trained one.

    Args:
        step: the step that asks, the folder its output goes to.
        data: the prepared data.
        model: the pretrained model.
        root_uri: the run root.

    Raises:
        InputError: the head means nothing before it is trained, or the base model cannot be used.
    """
    base = find_base_model(model.base_model)
    if not answers_untrained(model, kind_of(base.folder, base.name)):
        raise InputError(
            f"Parameter head is {model.head!r}: expected 'label_embedding' for gradients at the pretrained "
            "weights, as another head means nothing before it is trained."
        )
    settings = {name: value for name, value in model.model_dump().items() if name != "base_model"}
    inputs = {"data": data.digest, "base_model": [base.digest, base.tokenizer_digest], "model": settings}

    def work(output: Path) -> dict[str, Any]:
        from gradsift.components.shared.models.model_loading import before_training

        prepared = PreparedData(fetch(data, [INDEX]))
        before_training(model, prepared, seed=0).save(output)
        return {
            "suite": prepared.suite,
            "target": prepared.target,
            "base_model": model.base_model,
            "base_model_digest": base.digest,
            "tokenizer_digest": base.tokenizer_digest,
            "train_embeddings": model.train_embeddings,
        }

    return produce(root_uri, step, inputs, work)
