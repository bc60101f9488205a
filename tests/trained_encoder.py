"""An encoder as meta-training would leave it, made without training."""

import json
from pathlib import Path

import torch

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import INDEX, PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.parameters.model import HeadKind, ModelConfig


def trained_model(
    root: Path | str, encoder: Path, data: StepOutput, change: float = 0.0, head: HeadKind = "label_embedding"
) -> StepOutput:
    """What training leaves, without the training: every trained weight is `change` larger or smaller."""
    prepared = PreparedData(fetch(data, [INDEX]))
    base = find_base_model(str(encoder))

    def work(folder: Path) -> dict[str, object]:
        settings = ModelConfig(base_model=str(encoder), head=head, max_length=32)
        model = EncoderClassifier.from_base(base, Head.of_config(settings, prepared))
        model.freeze_embeddings()
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(change * (2 * torch.randint(2, parameter.shape, generator=draws) - 1))
        model.save(folder)
        (folder / "training.json").write_text(
            json.dumps(
                {
                    "tasks": [prepared.target],
                    "model": settings.model_dump(),
                    "recipe": {"seed": 0},
                }
            )
        )
        digests = {"base_model_digest": base.digest, "tokenizer_digest": base.tokenizer_digest}
        return {"train_embeddings": False, **digests}

    return produce(str(root), "meta_training", {"change": change, "head": head}, work)
