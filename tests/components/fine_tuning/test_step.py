"""Groups of runs through the real launch: what each run measures and leaves, and that none is trained twice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError, NotFoundError
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.model_answers import held_out_answers
from gradsift.components.shared.models.model_loading import from_base, open_model
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    FineTuningRuns,
    GroupSettings,
    PlannedRun,
    RunGroup,
    read_runs,
)
from gradsift.components.shared.records.run_answers import HeldOutAnswers, ValidationAnswers
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.trained_model import produce_trained_model

RECIPE = TrainingRecipe(steps=6, batch_size=8, learning_rate=3e-3, precision="float32", processes=1, seed=3)
UNTRAINED = PlannedRun(subset=[], seed=0, steps=0)


class Runs:
    """Runs under one run root."""

    def __init__(self, root: Path, data: StepOutput, encoder: Path) -> None:
        self.root = root
        self.data = data
        self.prepared = PreparedData(fetch(data))
        self.model = ModelConfig(base_model=str(encoder))
        base = find_base_model(str(encoder))
        self.weights = [base.digest, base.tokenizer_digest]

    def group(
        self, runs: list[PlannedRun], meta: StepOutput | None = None, recipe: TrainingRecipe = RECIPE
    ) -> RunGroup:
        settings = GroupSettings.of(self.data, self.prepared, self.weights, self.model, recipe, meta)
        return RunGroup(purpose="calibration", number=0, settings=settings, runs=runs)

    def on(self, subset: list[str], recipe: TrainingRecipe = RECIPE) -> PlannedRun:
        return PlannedRun.of(self.prepared, subset, recipe)

    def train(self, group: RunGroup) -> list[StepOutput]:
        with track_step("calibration-0", str(self.root), {}) as tracker:
            return train_runs(group, self.data, str(self.root), tracker)

    def records(self, group: RunGroup) -> FineTuningRuns:
        found = read_runs([group], str(self.root))
        assert found is not None
        return found

    def launches(self) -> list[list[tuple[list[str], int]]]:
        """Tasks and seed of each job, launch by launch in the order of their first ones."""
        files = sorted(
            self.root.glob("work/fine_tuning-*-processes/jobs.json"), key=lambda path: path.stat().st_mtime_ns
        )
        return [
            [(job["tasks"], job["recipe"]["seed"]) for job in json.loads(file.read_text())] for file in files
        ]


@pytest.fixture(scope="module")
def runs(prepared_data: StepOutput, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), prepared_data, tiny_encoder)


@pytest.fixture(scope="module")
def meta(runs: Runs) -> StepOutput:
    """The model trained on the first run's tasks: both theta* and what that run should give."""
    with track_step("meta_training", str(runs.root), {}) as tracker:
        tasks = ["sst2", *runs.on(["trec", "mr"]).subset]
        return produce_trained_model(
            "meta_training", runs.data, tasks, runs.model, RECIPE, str(runs.root), tracker
        )


@pytest.fixture(scope="module")
def group(runs: Runs) -> RunGroup:
    return runs.group([runs.on(["trec", "mr"]), runs.on([]), UNTRAINED])


@pytest.fixture(scope="module")
def outputs(runs: Runs, group: RunGroup) -> list[StepOutput]:
    return runs.train(group)


def test_a_run_is_a_model_trained_on_the_subset_and_measured_on_the_validation_split(
    runs: Runs, group: RunGroup, outputs: list[StepOutput], meta: StepOutput
) -> None:
    model = EncoderClassifier.load(fetch(meta))
    rows = runs.prepared.split("sst2", "val")
    predicted, right = model.log_probabilities(rows, "sst2").numpy(), np.array(rows["label"][:])
    losses = -predicted[np.arange(len(right)), right]
    found = runs.records(group)
    assert found.runs[0].val_loss == pytest.approx(losses.mean(), abs=1e-6)
    assert found.runs[0].val_accuracy == pytest.approx((predicted.argmax(1) == right).mean())
    answers, _ = ValidationAnswers.read(fetch(outputs[0]))
    assert answers.loss == pytest.approx(losses, abs=1e-5)
    assert found.runs[0].subset == [task for task in runs.prepared.auxiliary_tasks if task in {"mr", "trec"}]
    assert [(run.seed, run.train_rows, run.optimizer_steps) for run in found.runs] == [
        (3, 96, 6),
        (3, 32, 6),
        (0, 0, 0),
    ]
    assert (found.target, found.start, "seed" in found.recipe) == ("sst2", "base", False)


def test_a_run_answers_the_test_inputs(runs: Runs, outputs: list[StepOutput], meta: StepOutput) -> None:
    expected = held_out_answers(open_model(fetch(meta)), runs.prepared, "float32")
    found = HeldOutAnswers.read(fetch(outputs[0]))
    assert np.array_equal(found.labels, expected.labels)  # type: ignore[arg-type]
    assert np.array_equal(found.label_losses, expected.label_losses)  # type: ignore[arg-type]


def test_a_run_without_steps_measures_the_base_model(runs: Runs, outputs: list[StepOutput]) -> None:
    expected = held_out_answers(from_base(runs.model, runs.prepared), runs.prepared, "float32")
    assert np.array_equal(HeldOutAnswers.read(fetch(outputs[2])).labels, expected.labels)  # type: ignore[arg-type]


def test_a_record_lies_in_a_folder_of_its_own_and_holds_no_weights(
    runs: Runs, outputs: list[StepOutput]
) -> None:
    for output in outputs:
        assert Path(output.uri).parent == runs.root / "fine_tuning_runs"
        assert {path.name for path in fetch(output).iterdir()} == {
            "manifest.json",
            "run.json",
            "training.json",
            "val.safetensors",
            "test.safetensors",
        }
    assert not list(runs.root.glob("work/fine_tuning_runs-*"))
    assert not list(runs.root.glob("work/fine_tuning-*/checkpoints/*"))


def test_only_missing_runs_are_trained(runs: Runs, group: RunGroup, outputs: list[StepOutput]) -> None:
    assert [output.reused for output in outputs] == [False, False, False]
    [jobs] = runs.root.glob("work/fine_tuning-*/jobs.json")
    jobs.unlink()
    again = runs.train(group)
    assert again == [replace(output, reused=True) for output in outputs]
    assert not jobs.exists(), "something was launched"
    other_seed = runs.on([], RECIPE.model_copy(update={"seed": 4}))
    more = runs.train(runs.group([*group.runs, other_seed]))
    assert [output.reused for output in more] == [True, True, True, False]
    assert runs.launches() == [[(["sst2"], 4)]]
    records = runs.records(runs.group([group.runs[1], other_seed])).runs
    assert records[0].val_loss != records[1].val_loss


def test_runs_can_start_from_theta(
    runs: Runs, group: RunGroup, outputs: list[StepOutput], meta: StepOutput
) -> None:
    onward = runs.group(group.runs[:1], meta)
    runs.train(onward)
    found = runs.records(onward)
    assert found.start == found.runs[0].start == "meta"
    assert found.runs[0].val_loss != runs.records(group).runs[0].val_loss


def test_a_job_that_a_kill_left_finished_is_published_without_training(
    runs: Runs, group: RunGroup, outputs: list[StepOutput]
) -> None:
    """A kill after training leaves the job's folder; here it is what is left of the published record."""
    record = fetch(outputs[1])
    kept = record.with_name("kept")
    record.rename(kept)
    folder = runs.root / "work" / f"fine_tuning_runs-{record.name}"
    folder.mkdir()
    for name in ("training.json", "val.safetensors", "test.safetensors"):
        (folder / name).write_bytes((kept / name).read_bytes())
    before = runs.launches()
    [again] = runs.train(runs.group([group.runs[1]]))
    assert runs.launches() == before
    assert again.digest == outputs[1].digest


def test_another_base_model_than_the_planned_one_is_an_error(runs: Runs) -> None:
    group = runs.group([runs.on(["mr"])])
    changed = group.settings.model_copy(update={"weights": ["0123456789abcdef", "tokenizer"]})
    with pytest.raises(InputError, match="is another one than before: expected weights with digest"):
        runs.train(group.model_copy(update={"settings": changed}))


def test_a_run_that_is_not_finished_cannot_be_read(runs: Runs) -> None:
    with pytest.raises(
        NotFoundError, match=r"no finished fine-tuning run at .*/fine_tuning_runs/[0-9a-f]{16}:"
    ):
        read_runs([runs.group([runs.on(["mr_flipped"])])], str(runs.root))
    assert read_runs([], str(runs.root)) is None


@pytest.mark.slow
def test_two_processes_under_zero_3_measure_the_same(
    runs: Runs, group: RunGroup, outputs: list[StepOutput], tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"processes": 2, "zero_stage": 3})
    alone, spread = runs.records(group), Runs(tmp_path, runs.data, Path(runs.model.base_model))
    sharded = spread.group(group.runs, recipe=recipe)
    answered = spread.train(sharded)
    assert [run.val_loss for run in spread.records(sharded).runs] == pytest.approx(
        [run.val_loss for run in alone.runs], abs=1e-5
    )
    for one, two in zip(outputs, answered, strict=True):
        labels = [HeldOutAnswers.read(fetch(each)).labels for each in (one, two)]
        assert labels[1] == pytest.approx(labels[0], abs=1e-4)
