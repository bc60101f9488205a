"""Meta-training as a task of the pipeline: the run's outputs and settings in, an artifact out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.meta_training import step
from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.sampling_schedule import EarlierSchedule
from gradsift.components.shared.tracking.step_run import run_step


def meta_train(meta_model: Any, inputs: str, settings: Mapping[str, Any]) -> str:
    """Train one model on all tasks: the meta-initialisation theta*."""
    root, launcher = settings["output_uri"], launcher_on(settings.get("node_resources", {}))
    outputs = read_outputs(inputs, root)
    config = ModelConfig(**settings["model"]).resolved(outputs["data"].metadata["max_length"])
    recipe = TrainingRecipe(**settings["recipe"])
    sampling = MetaSampling(**settings["sampling"]) if "sampling" in settings else None
    fairness = FairnessConfig(**settings.get("fairness", {})).in_training
    found = outputs.get("earlier_schedule")
    earlier = None if found is None else EarlierSchedule.read(fetch(found))
    outputs["meta_model"] = run_step(
        step.STEP,
        settings,
        {**config.model_dump(), **recipe.model_dump(), **settings.get("sampling", {})},
        lambda tracker: step.meta_train(
            config, recipe, outputs["data"], root, tracker, launcher, sampling, fairness, earlier
        ),
        meta_model,
    )
    return write_outputs(outputs, root)
