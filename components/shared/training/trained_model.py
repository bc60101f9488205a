"""A trained model as a step's output: what meta-training makes, and its metadata, which every trained model has."""

import json
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import BaseModel, find_base_model
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.settings import SettingsError
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.sampling_schedule import EarlierSchedule
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.rounds import train_in_rounds
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
    sampling: MetaSampling | None = None,
    fairness: FairnessConfig | None = None,
    earlier: EarlierSchedule | None = None,
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
        sampling: the sampler that draws the rows, in rounds; None draws by size. With one, the output also holds
            `schedule.json`.
        fairness: the limit that training keeps to; None for none.
        earlier: what an earlier run's sampler learned, with which this one begins; None begins without.

    Raises:
        InputError: the base model cannot be used, the sampler is to choose more tasks than there are, or the groups
            of the target's rows cannot be compared.
        TrainingError: training ended without a result.
    """
    base = find_base_model(model.base_model)
    inputs: dict[str, Any] = {
        "data": data.digest,
        "tasks": tasks,
        "base_model": [base.digest, base.tokenizer_digest],
        "model": {name: value for name, value in model.model_dump().items() if name != "base_model"},
        "recipe": recipe.model_dump(),
    }
    if sampling is not None:
        inputs["sampling"] = sampling.model_dump()
        if problems := list(sampling.check_tasks(len(tasks) - 1)):
            raise SettingsError(problems)
    if fairness is not None:
        inputs["fairness"] = fairness.model_dump()
    if earlier is not None:
        inputs["earlier_schedule"] = earlier.model_dump()
    folder = fetch(data)
    prepared = PreparedData(folder)
    for name in tasks:
        tracker.dataset(name, data.uri, data.digest, "training", prepared.task(name).rows["train"])

    def work(output: Path) -> dict[str, Any]:
        job = TrainingJob(output, folder, tasks, model, recipe, fairness=fairness)
        scratch = output.with_name(f"{output.name}-processes")
        if sampling is None:
            [result] = train([job], scratch, tracker, launch)
        else:
            rows = sum(prepared.task(name).rows["train"] for name in tasks)
            result = train_in_rounds(job, sampling, rows, scratch, tracker, launch, earlier)
        sampler = {} if sampling is None else {"sampler": sampling.sampler}
        return model_metadata(prepared, model, base, result) | sampler

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
