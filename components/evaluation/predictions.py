"""Trains the models to compare and predicts the target's validation and test rows with each."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from gradsift.components.shared.base_model import find_base_model
from gradsift.components.shared.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.prepared_data import PreparedData, Split
from gradsift.components.shared.step_output import digest_of
from gradsift.components.shared.storage import atomic_file
from gradsift.components.shared.tracking import StepTracker
from gradsift.components.shared.training import TrainingJob, train
from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe

Predictions = dict[str, npt.NDArray[np.float32]]
SPLITS: tuple[Split, ...] = ("val", "test")


@dataclass(frozen=True)
class FineTuning:
    """One fine-tuning run to compare: auxiliary tasks, in the order that they are trained in, and a seed."""

    subset: list[str]
    seed: int

    @property
    def key(self) -> str:
        """Name of the run's files: runs on the same tasks with the same seed are one run."""
        return f"{digest_of(sorted(self.subset))[:12]}-seed{self.seed}"


def predict_all(
    runs: list[FineTuning],
    finished_models: dict[str, Path],
    data: PreparedData,
    model: ModelConfig,
    recipe: TrainingRecipe,
    output: Path,
    tracker: StepTracker,
) -> dict[str, Predictions]:
    """Return each run's log-probabilities on the target's validation and test rows.

    Predictions are kept in `output`, models are deleted once they have predicted: a restart trains only the
    runs whose predictions are not there. One launch trains all models, as its start-up takes longer than a
    small fine-tune: until they have predicted, the weights of all of them are on the disk (90 MB a run for
    MiniLM, 440 MB for a BERT-base), and for the one in training a checkpoint of three times that.

    Args:
        runs: the runs; equal ones are trained once.
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
    distinct = {run.key: run for run in runs}
    missing = [key for key in distinct if not _file(output, key).exists()]
    jobs = [
        TrainingJob(
            scratch / key,
            data.folder,
            [data.target, *distinct[key].subset],
            model,
            replace(recipe, seed=distinct[key].seed),
        )
        for key in missing
        if key not in finished_models
    ]
    train(jobs, scratch, tracker)
    for key in tqdm(distinct, unit="model", desc="predict"):
        if key in missing:
            classifier = EncoderClassifier.load(finished_models.get(key, scratch / key))
            _save(output, key, predict(classifier, data, recipe.precision))
        shutil.rmtree(scratch / key, ignore_errors=True)
    return {key: load_file(_file(output, key)) for key in distinct}


def predict_base(data: PreparedData, model: ModelConfig, precision: str) -> Predictions | None:
    """Return the untrained base model's predictions, or None where its head has to be trained first."""
    if model.head != "label_embedding":
        return None
    labels = {task.name: task.labels for task in data.tasks}
    head = Head.for_tasks("label_embedding", model.score_scale, model.max_length, data.target, labels)
    return predict(EncoderClassifier.from_base(find_base_model(model.base_model), head), data, precision)


def predict(model: EncoderClassifier, data: PreparedData, precision: str) -> Predictions:
    """Return a model's log-probabilities on the target's validation and test rows."""
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    return {
        split: model.log_probabilities(
            data.split(data.target, split),
            data.target,
            precision=precision,  # type: ignore[arg-type]  # checked by TrainingRecipe
        ).numpy()
        for split in SPLITS
    }


def _file(output: Path, key: str) -> Path:
    return output / "predictions" / f"{key}.safetensors"


def _save(output: Path, key: str, predictions: Predictions) -> None:
    with atomic_file(_file(output, key)) as path:
        save_file(predictions, path)
