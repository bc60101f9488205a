"""Trains the models to compare and lets each answer the target's validation and test rows."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from gradsift.components.shared.artifacts.step_output import digest_of
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.model_answers import ModelAnswers, answer
from gradsift.components.shared.models.model_loading import from_base, open_model
from gradsift.components.shared.models.untrained_model import answers_untrained
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.training import Launcher, train

WRITTEN = "written"


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
    launch: Launcher = launch_processes,
) -> dict[str, ModelAnswers]:
    """Return each run's answers to the target's validation and test rows.

    Answers are kept in `output`, models are deleted once they have answered: a restart trains only the runs
    whose answers are not there. One launch trains all models, as its start-up takes longer than a
    small fine-tune: until they have answered, the weights of all of them are on the disk (90 MB a run for
    MiniLM, 440 MB for a BERT-base), and for the one in training a checkpoint of three times that.

    Args:
        runs: the runs; equal ones are trained once.
        finished_models: folders of models that are trained already, by the run's key.
        data: the prepared data.
        model: the pretrained model.
        recipe: the recipe of every run, but for its seed.
        output: the step's output folder.
        tracker: gets the progress.
        launch: where training runs (see `train`).

    Returns:
        By each run's key.
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
            recipe.model_copy(update={"seed": distinct[key].seed}),
        )
        for key in missing
        if key not in finished_models
    ]
    train(jobs, scratch, tracker, launch)
    report = _progress(tracker, len(missing) * data.task(data.target).rows["test"])
    for key in tqdm(distinct, unit="model", desc="predict"):
        if key in missing:
            trained = open_model(finished_models.get(key, scratch / key))
            _save(output, key, answer(trained, data, recipe.precision, report))
        shutil.rmtree(scratch / key, ignore_errors=True)
    return {key: _load(output, key) for key in distinct}


def predict_base(data: PreparedData, model: ModelConfig, precision: str) -> ModelAnswers | None:
    """Return the untrained base model's answers, or None where its head has to be trained first."""
    base = find_base_model(model.base_model)
    if not answers_untrained(model, base):
        return None
    return answer(from_base(model, data), data, precision)  # type: ignore[arg-type]  # checked by TrainingRecipe


def _progress(tracker: StepTracker, total: int) -> Callable[[int], None]:
    """Return what to call with every number of rows that have been written, of `total` in all."""
    done = 0

    def report(rows: int) -> None:
        nonlocal done
        done += rows
        tracker.progress(done, total, "rows written")

    return report


def _file(output: Path, key: str) -> Path:
    return output / "predictions" / f"{key}.safetensors"


def _save(output: Path, key: str, answers: ModelAnswers) -> None:
    """Write arrays as tensors, texts into the file's metadata."""
    arrays = {name: value for name, value in vars(answers).items() if name != WRITTEN and value is not None}
    with atomic_file(_file(output, key)) as path:
        save_file(arrays, path, {WRITTEN: json.dumps(answers.written)})


def _load(output: Path, key: str) -> ModelAnswers:
    with safe_open(_file(output, key), "numpy") as file:
        arrays: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        return ModelAnswers(**arrays, written=json.loads(file.metadata()[WRITTEN]))
