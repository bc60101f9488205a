"""The final fine-tuning as a task of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.shared.artifacts.step_output import read_pointer
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.tracking.step_run import run_step
from gradsift.components.target_finetuning import step


def fine_tune_target(data: Any, selection: Any, model: Any, settings: Mapping[str, Any]) -> None:
    """Fine-tune the base model on the selected tasks and the target."""
    config, recipe = ModelConfig(**settings["model"]), TrainingRecipe(**settings["recipe"])
    launcher = launcher_on(settings.get("node_resources", {}))
    run_step(
        step.STEP,
        settings,
        {**config.model_dump(), **recipe.model_dump()},
        lambda tracker: step.fine_tune_target(
            config,
            recipe,
            read_pointer(data),
            read_pointer(selection),
            settings["output_uri"],
            tracker,
            launcher,
        ),
        model,
    )
