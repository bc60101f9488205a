"""A trained model as a step's output: what meta-training makes, and its metadata, which every trained model has."""

import json
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import BaseModel, find_base_model
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.training import Launcher, train


def produce_trained_model(
    step: str,
    data: StepOutput,
    tasks: list[str],
    model: ModelConfig,
    recipe: TrainingRecipe,
    root_uri: str,
    tracker: StepTracker,
    launch: Launcher = launch_processes,
) -> StepOutput:
    """Train the base model on the train rows of `tasks`, or find that model finished.

    The output holds what the model's `save` writes and `training.json` (recipe, rows, steps, losses).

    Args:
        step: the step that asks, the folder its output goes to.
        data: the prepared data.
        tasks: names of the tasks to train on.
        model: the pretrained model.
        recipe: how it is trained.
        root_uri: the run root.
        tracker: gets losses, progress and the data sets used.
        launch: where training runs (see `train`).

    Raises:
        InputError: the base model cannot be used.
        TrainingError: training ended without a result.
    """
    base = find_base_model(model.base_model)
    inputs = {
        "data": data.digest,
        "tasks": tasks,
        "base_model": [base.digest, base.tokenizer_digest],
        "model": {name: value for name, value in model.model_dump().items() if name != "base_model"},
        "recipe": recipe.model_dump(),
    }
    folder = fetch(data)
    prepared = PreparedData(folder)
    for name in tasks:
        tracker.dataset(name, data.uri, data.digest, "training", prepared.task(name).rows["train"])

    def work(output: Path) -> dict[str, Any]:
        job = TrainingJob(output, folder, tasks, model, recipe)
        [result] = train([job], output.with_name(f"{output.name}-processes"), tracker, launch)
        return model_metadata(prepared, model, base, result)

    return produce(root_uri, step, inputs, work)


def training_result(output: StepOutput) -> dict[str, Any]:
    """Return the `training.json` of a trained model."""
    content: dict[str, Any] = json.loads((fetch(output, ["training.json"]) / "training.json").read_text())
    return content


def model_metadata(
    data: PreparedData, model: ModelConfig, base: BaseModel, result: dict[str, Any]
) -> dict[str, Any]:
    """Return the metadata of a trained model's output.

    Args:
        data: the prepared data.
        model: the pretrained model.
        base: its weights.
        result: the content of `training.json`.
    """
    return {
        "suite": data.suite,
        "target": data.target,
        "base_model": model.base_model,
        "base_model_digest": base.digest,
        "tokenizer_digest": base.tokenizer_digest,
        "train_embeddings": model.train_embeddings,
        "train_rows": sum(result["rows"].values()),
        "optimizer_steps": result["optimizer_steps"],
        "final_train_loss": result["losses"][-1][1],
    }
