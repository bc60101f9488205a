"""What fine-tuning leaves of a final model but for its weights, without the training."""

import json
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe


def produce_final_model(
    root: Path, tasks: list[str], model: ModelConfig, recipe: TrainingRecipe, answers_untrained: bool = True
) -> StepOutput:
    """Write `training.json` of a model that was trained on `tasks`, under a run root."""
    base = find_base_model(model.base_model)

    def work(folder: Path) -> dict[str, Any]:
        result = {
            "tasks": tasks,
            "model": model.model_dump(),
            "recipe": recipe.model_dump(),
            "optimizer_steps": recipe.steps,
        }
        (folder / "training.json").write_text(json.dumps(result))
        return {
            "base_model": model.base_model,
            "base_model_digest": base.digest,
            "tokenizer_digest": base.tokenizer_digest,
            "answers_untrained": answers_untrained,
        }

    return produce(
        str(root), "fine_tuning", {"tasks": tasks, "model": model.model_dump()}, work, "fine_tuned_models"
    )
