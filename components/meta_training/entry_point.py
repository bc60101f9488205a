"""Meta-training as a task of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.meta_training import step
from gradsift.components.shared.artifacts.step_output import read_pointer
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.tracking.step_run import run_step


def meta_train(data: Any, model: Any, settings: Mapping[str, Any]) -> None:
    """Train one model on all tasks: the meta-initialisation theta*."""
    root, launcher = settings["output_uri"], launcher_on(settings.get("node_resources", {}))
    config, recipe = ModelConfig(**settings["model"]), TrainingRecipe(**settings["recipe"])
    run_step(
        step.STEP,
        settings,
        {**config.model_dump(), **recipe.model_dump()},
        lambda tracker: step.meta_train(config, recipe, read_pointer(data), root, tracker, launcher),
        model,
    )
