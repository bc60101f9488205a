"""True fine-tunings through the real launch: what they measure, and that a killed study continues."""

import json
from pathlib import Path

import numpy as np
import pytest

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import NotFoundError
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.true_losses import PlannedRuns, TrueLosses, TrueRun, gather
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.job import PREDICTIONS, RESULT
from gradsift.components.shared.training.trained_model import produce_trained_model
from gradsift.components.shared.training.true_runs import Run, run_truly

RECIPE = TrainingRecipe(steps=6, batch_size=8, learning_rate=3e-3, precision="float32", processes=1)
RUNS = [Run(["trec", "mr"], 3), Run([], 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("true")


@pytest.fixture(scope="module")
def meta(prepared_data: StepOutput, tiny_encoder: Path, folder: Path) -> StepOutput:
    """Return the model trained on the first run's tasks: both theta* and what that run should give."""
    model = ModelConfig(base_model=str(tiny_encoder))
    tasks = ["sst2", *(task for task in tasks_of(prepared_data) if task in RUNS[0].subset)]
    with track_step("meta_training", str(folder), {}) as tracker:
        return produce_trained_model(
            "meta_training",
            prepared_data,
            tasks,
            model,
            RECIPE.model_copy(update={"seed": 3}),
            str(folder),
            tracker,
        )


def run(
    runs: list[Run],
    data: StepOutput,
    encoder: Path,
    folder: Path,
    meta: StepOutput | None = None,
    recipe: TrainingRecipe = RECIPE,
) -> TrueLosses:
    with track_step("calibration", str(folder / "root"), {}) as tracker:
        model = ModelConfig(base_model=str(encoder))
        return run_truly(runs, data, model, recipe, folder / "runs", tracker, meta)


@pytest.fixture(scope="module")
def true(prepared_data: StepOutput, tiny_encoder: Path, folder: Path) -> TrueLosses:
    return run(RUNS, prepared_data, tiny_encoder, folder)


def tasks_of(data: StepOutput) -> list[str]:
    return PreparedData(fetch(data)).auxiliary_tasks


def measured(model: EncoderClassifier, data: StepOutput) -> tuple[float, float]:
    rows = PreparedData(fetch(data)).split("sst2", "val")
    predicted = model.log_probabilities(rows, "sst2").numpy()
    answers = np.array(rows["label"][:])
    return -predicted[np.arange(len(answers)), answers].mean(), (predicted.argmax(1) == answers).mean()


def test_a_run_is_a_model_trained_on_the_subset_and_measured_on_the_validation_split(
    true: TrueLosses, meta: StepOutput, prepared_data: StepOutput
) -> None:
    loss, accuracy = measured(EncoderClassifier.load(fetch(meta)), prepared_data)
    assert true.runs[0].val_loss == pytest.approx(loss, abs=1e-5)
    assert true.runs[0].val_accuracy == pytest.approx(accuracy)
    assert true.runs[0].subset == [task for task in tasks_of(prepared_data) if task in {"mr", "trec"}]
    assert [each.train_rows for each in true.runs] == [96, 32]
    assert [(each.seed, each.optimizer_steps) for each in true.runs] == [(3, 6), (3, 6)]
    assert (true.target, true.start, true.recipe["steps"]) == ("sst2", "base", 6)
    assert "seed" not in true.recipe


def test_no_model_is_kept(true: TrueLosses, folder: Path) -> None:
    names = {path.name for path in (folder / "runs").rglob("*") if path.is_file()}
    assert names == {RESULT, PREDICTIONS}
    assert not any((folder / "runs-processes" / "checkpoints").iterdir())


def test_only_missing_runs_are_done(
    true: TrueLosses, prepared_data: StepOutput, tiny_encoder: Path, folder: Path, meta: StepOutput
) -> None:
    kept = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*") if path.is_file()}
    more = run([*RUNS, Run([], 4)], prepared_data, tiny_encoder, folder, None)
    assert more.runs[:2] == true.runs
    assert more.runs[2].val_loss != true.runs[1].val_loss
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    jobs = json.loads((folder / "runs-processes" / "jobs.json").read_text())
    assert [job["recipe"]["seed"] for job in jobs] == [4]


def test_runs_can_go_on_from_theta(
    true: TrueLosses, prepared_data: StepOutput, tiny_encoder: Path, folder: Path, meta: StepOutput
) -> None:
    onward = run(RUNS[:1], prepared_data, tiny_encoder, folder, meta)
    assert onward.start == "meta"
    assert onward.runs[0].val_loss != true.runs[0].val_loss


@pytest.mark.slow
def test_two_processes_under_zero_3_measure_the_same(
    true: TrueLosses, prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"processes": 2, "zero_stage": 3})
    spread = run(RUNS, prepared_data, tiny_encoder, tmp_path, recipe=recipe)
    assert [each.val_loss for each in spread.runs] == pytest.approx(
        [each.val_loss for each in true.runs], abs=1e-5
    )


def losses(subset: list[str], loss: float) -> TrueLosses:
    run = TrueRun(
        subset=subset, seed=0, val_loss=loss, val_accuracy=0.5, train_rows=9, optimizer_steps=2, seconds=1.0
    )
    return TrueLosses(suite="demo", target="sst2", recipe={"steps": 2}, start="base", runs=[run])


def test_planned_runs_are_gathered_in_order(tmp_path: Path) -> None:
    planned = []
    for number, subset in enumerate(([], ["mr"])):

        def work(output: Path, number: int = number, subset: list[str] = subset) -> dict[str, object]:
            losses(subset, 0.5 + number).write(output)
            return {}

        output = produce(str(tmp_path), "calibration", {"subset": subset}, work)
        planned.append(PlannedRuns(number=number, uri=output.uri, inputs={"subset": subset}))
    gathered = gather(planned, str(tmp_path))
    assert gathered is not None
    assert [run.val_loss for run in TrueLosses.read(fetch(gathered)).runs] == [0.5, 1.5]
    again = gather(planned, str(tmp_path))
    assert again is not None
    assert again.reused
    missing = PlannedRuns(number=2, uri=f"{tmp_path}/calibration/nothing", inputs={})
    with pytest.raises(NotFoundError, match="no finished calibration run at"):
        gather([*planned, missing], str(tmp_path))


def test_nothing_planned_is_nothing_gathered(tmp_path: Path) -> None:
    assert gather([], str(tmp_path)) is None
