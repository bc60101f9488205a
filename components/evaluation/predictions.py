"""Trains the models to compare and predicts the target's validation and test rows with each."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from gradsift.components.shared.base_model import find_base_model
from gradsift.components.shared.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.prepared_data import PreparedData
from gradsift.components.shared.storage import atomic_file
from gradsift.components.shared.tracking import StepTracker
from gradsift.components.shared.training import TrainingJob, train
from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe

Predictions = dict[str, npt.NDArray[np.float32]]
SPLITS = ("val", "test")


@dataclass(frozen=True)
class Comparison:
    """One fine-tuning run to compare: a subset and a seed."""

    name: str
    subset: list[str]
    seed: int

    @property
    def key(self) -> str:
        """Name of the run's files."""
        return f"{self.name}-seed{self.seed}"


def predict_all(
    comparisons: list[Comparison],
    finished_models: dict[str, Path],
    data: PreparedData,
    model: ModelConfig,
    recipe: TrainingRecipe,
    output: Path,
    tracker: StepTracker,
) -> dict[str, Predictions]:
    """Return each run's log-probabilities on the target's validation and test rows.

    Predictions are kept in `output`, models are deleted once they have predicted: a restart trains only the
    runs whose predictions are not there.

    Args:
        comparisons: the runs.
        finished_models: folders of models that are trained already, by the run's key.
        data: the prepared data.
        model: the pretrained encoder and head.
        recipe: the recipe of every run, but for its seed.
        output: the step's output folder.
        tracker: gets the progress.

    Returns:
        For each run's key, arrays `val` and `test` [n_rows, n_labels].
    """
    scratch = output.with_name(f"{output.name}-processes")
    missing = [run for run in comparisons if not _file(output, run.key).exists()]
    jobs = {
        run.key: TrainingJob(
            scratch / run.key, data.folder, [data.target, *run.subset], model, replace(recipe, seed=run.seed)
        )
        for run in missing
        if run.key not in finished_models
    }
    train(list(jobs.values()), scratch, tracker)
    for run in tqdm(missing, unit="model", desc="predict"):
        folder = finished_models.get(run.key) or jobs[run.key].folder
        _save(output, run.key, predict(EncoderClassifier.load(folder), data))
        if run.key in jobs:
            shutil.rmtree(folder)
    return {run.key: load_file(_file(output, run.key)) for run in comparisons}


def predict_base(data: PreparedData, model: ModelConfig) -> Predictions | None:
    """Return the untrained base model's predictions, or None where its head has to be trained first."""
    if model.head != "label_embedding":
        return None
    labels = {task.name: task.labels for task in data.tasks}
    head = Head.for_tasks("label_embedding", model.score_scale, model.max_length, data.target, labels)
    return predict(EncoderClassifier.from_base(find_base_model(model.base_model), head), data)


def predict(model: EncoderClassifier, data: PreparedData) -> Predictions:
    """Return a model's log-probabilities on the target's validation and test rows."""
    return {
        split: model.log_probabilities(data.split(data.target, split), data.target).numpy()  # type: ignore[arg-type]
        for split in SPLITS
    }


def _file(output: Path, key: str) -> Path:
    return output / "predictions" / f"{key}.safetensors"


def _save(output: Path, key: str, predictions: Predictions) -> None:
    with atomic_file(_file(output, key)) as path:
        save_file(predictions, path)
