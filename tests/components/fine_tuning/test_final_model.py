"""Target fine-tuning as a step: the base model, trained on the target and the selected tasks alone."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forked_training import forked_training
from safetensors.torch import load_file
from selection_output import produce_selection

from gradsift.components.fine_tuning.final_model import STEP, fine_tune_target
from gradsift.components.fine_tuning.plan import plan_comparisons
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.model_answers import held_out_answers
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    CANDIDATES,
    FineTuningRun,
    GroupSettings,
    PlannedRun,
    RunGroup,
    find_record,
    run_inputs,
)
from gradsift.components.shared.records.run_answers import HeldOutAnswers
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.trained_model import training_result

RECIPE = TrainingRecipe(steps=3, batch_size=8, precision="float32", processes=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def settings_of(encoder: Path, data: StepOutput, meta: StepOutput | None = None) -> GroupSettings:
    base, model = find_base_model(str(encoder)), ModelConfig(base_model=str(encoder))
    weights = [base.digest, base.tokenizer_digest]
    return GroupSettings.of(data, PreparedData(fetch(data)), weights, model, RECIPE, meta)


def run(root: Path, tiny_encoder: Path, data: StepOutput, tasks: list[str]) -> StepOutput:
    settings = settings_of(tiny_encoder, data)
    subsets = {"selected": tasks, "all": ["mr", "mr_flipped", "trec"]}
    selection = produce_selection(
        root / "-".join(["chosen", *tasks]), "sst2", subsets, dict.fromkeys(subsets, 0.5)
    )
    with forked_training(), track_step(STEP, str(root), {}) as tracker:
        return fine_tune_target(settings, RECIPE, data, selection, str(root), tracker)


@pytest.fixture(scope="module")
def output(root: Path, tiny_encoder: Path, prepared_data: StepOutput) -> StepOutput:
    return run(root, tiny_encoder, prepared_data, ["trec"])


def test_the_model_is_trained_on_the_target_and_the_selection_alone(output: StepOutput) -> None:
    found = training_result(output)
    assert found["tasks"] == ["sst2", "trec"]
    assert found["rows"] == {"sst2": 32, "trec": 32}
    assert output.metadata["train_rows"] == 64


def test_training_starts_from_the_base_model(output: StepOutput, tiny_encoder: Path) -> None:
    base, tuned = (load_file(folder / "model.safetensors") for folder in (tiny_encoder, fetch(output)))
    moved = max(float((value - base[name]).abs().max()) for name, value in tuned.items())
    assert 0 < moved <= RECIPE.steps * RECIPE.learning_rate * 1.01


def test_training_may_go_on_from_the_meta_trained_model(
    output: StepOutput, tiny_encoder: Path, prepared_data: StepOutput, root: Path
) -> None:
    """The final model stands for theta*; comparisons find the run, and the model that it starts from answers."""
    subsets: dict[str, list[str]] = {"selected": [], "all": ["mr"]}
    selection = produce_selection(root / "meta", "sst2", subsets, dict.fromkeys(subsets, 0.5))
    settings = settings_of(tiny_encoder, prepared_data, output)
    with forked_training(), track_step(STEP, str(root), {}) as tracker:
        tuned = fine_tune_target(settings, RECIPE, prepared_data, selection, str(root), tracker)
    start, end = (load_file(fetch(each) / "model.safetensors") for each in (output, tuned))
    moved = max(float((value - start[name]).abs().max()) for name, value in end.items())
    assert 0 < moved <= RECIPE.steps * RECIPE.learning_rate * 1.01
    assert FineTuningRun.read(root / "fine_tuning_runs" / Path(tuned.uri).name).start == "meta"

    config = ComparisonConfig(seeds=1)
    [group] = plan_comparisons(config, prepared_data, selection, tuned, str(root), meta=output)
    assert Path(find_record(group.settings, group.runs[0], str(root)).uri).name == Path(tuned.uri).name  # type: ignore[union-attr]
    untrained = group.model_copy(update={"runs": group.runs[-1:]})
    with forked_training(), track_step("comparisons-0", str(root), {}) as tracker:
        [record] = train_runs(untrained, prepared_data, str(root), tracker)
    expected = held_out_answers(open_model(fetch(output)), PreparedData(fetch(prepared_data)), "float32")
    assert np.array_equal(HeldOutAnswers.read(fetch(record)).labels, expected.labels)  # type: ignore[arg-type]


def test_the_final_model_is_recorded(output: StepOutput, root: Path) -> None:
    log = read_events((root / "tracking" / "local" / f"{STEP}.jsonl").read_bytes())
    models = [(event["uri"], event["digest"]) for event in log if event["event"] == "model"]
    assert (output.uri, output.digest) in models


def test_a_second_call_finds_the_model(
    output: StepOutput, tiny_encoder: Path, prepared_data: StepOutput, root: Path
) -> None:
    again = run(root, tiny_encoder, prepared_data, ["trec"])
    assert again.reused
    assert (again.uri, again.digest) == (output.uri, output.digest)


def test_the_final_model_is_a_run_with_a_record_of_what_the_model_answers(
    output: StepOutput, root: Path, prepared_data: StepOutput
) -> None:
    record = root / "fine_tuning_runs" / Path(output.uri).name
    run = FineTuningRun.read(record)
    assert (run.subset, run.seed, run.start, run.optimizer_steps) == (["trec"], 0, "base", 3)
    expected = held_out_answers(open_model(fetch(output)), PreparedData(fetch(prepared_data)), "float32")
    assert np.array_equal(HeldOutAnswers.read(record).labels, expected.labels)  # type: ignore[arg-type]
    names = {path.name for path in fetch(output).iterdir()}
    assert "model.safetensors" in names
    assert not names & {"run.json", "val.safetensors", "test.safetensors"}


def test_the_final_model_is_the_comparisons_first_run(
    output: StepOutput, root: Path, prepared_data: StepOutput, tiny_encoder: Path
) -> None:
    """The comparisons' group finds it, beside the one run that it has to train."""
    subsets = {"selected": ["trec"], "all": ["trec"]}
    estimates = produce_selection(root / "other", "sst2", subsets, dict.fromkeys(subsets, 0.5))
    [group] = plan_comparisons(ComparisonConfig(seeds=1), prepared_data, estimates, output, str(root))
    assert [run.steps for run in group.runs] == [3, 0]
    finished = find_record(group.settings, group.runs[0], str(root))
    assert finished is not None
    assert Path(finished.uri).name == Path(output.uri).name


def test_a_run_that_was_trained_without_its_weights_is_trained_again_for_them(
    output: StepOutput, tiny_encoder: Path, prepared_data: StepOutput, root: Path
) -> None:
    """An empty selection too makes a model."""
    settings = settings_of(tiny_encoder, prepared_data)
    runs = [PlannedRun.of(PreparedData(fetch(prepared_data)), [], RECIPE)]
    group = RunGroup(purpose="calibration", number=0, settings=settings, runs=runs)
    with forked_training(), track_step("calibration-0", str(root), {}) as tracker:
        [record] = train_runs(group, prepared_data, str(root), tracker)
    model_output = run(root, tiny_encoder, prepared_data, [])
    assert not model_output.reused
    assert Path(model_output.uri).name == Path(record.uri).name
    assert model_output.uri != output.uri
    assert training_result(model_output)["tasks"] == ["sst2"]
    assert fetch(record) == Path(record.uri), "the record is still what it was"


def test_on_s3_a_machine_that_knows_nothing_finds_the_record_and_the_model(
    tiny_encoder: Path,
    prepared_data: StepOutput,
    s3_root: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "first"))
    (tmp_path / "first").mkdir()
    made = train_on(s3_root, tiny_encoder, prepared_data, tmp_path)
    keys = open_storage(s3_root).keys()
    assert {key.split("/")[0] for key in keys} == {"fine_tuning_runs", "fine_tuned_models", "tracking"}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "second"))
    (tmp_path / "second").mkdir()
    again = train_on(s3_root, tiny_encoder, prepared_data, tmp_path)
    assert again == replace(made, reused=True)
    assert not list((tmp_path / "second").rglob("jobs.json"))
    assert (fetch(again) / "model.safetensors").exists()


def train_on(root_uri: str, encoder: Path, data: StepOutput, folder: Path) -> StepOutput:
    subsets: dict[str, list[str]] = {"selected": [], "all": ["mr"]}
    selection = produce_selection(folder, "sst2", subsets, dict.fromkeys(subsets, 0.5))
    with forked_training(), track_step(STEP, root_uri, {}) as tracker:
        return fine_tune_target(settings_of(encoder, data), RECIPE, data, selection, root_uri, tracker)


def test_weights_that_waited_for_the_choice_become_the_final_model(
    tiny_encoder: Path, prepared_data: StepOutput, tmp_path: Path
) -> None:
    """Nothing is trained: what is found is what the run before the choice left, byte for byte."""
    settings = settings_of(tiny_encoder, prepared_data)
    planned = PlannedRun.of(PreparedData(fetch(prepared_data)), ["mr"], RECIPE)

    def leave(folder: Path) -> dict[str, str]:
        (folder / "model.safetensors").write_bytes(b"weights")
        return {"base_model": "tiny"}

    candidate = produce(str(tmp_path), "fine_tuning", run_inputs(settings, planned), leave, CANDIDATES)
    subsets = {"selected": ["mr"], "all": ["mr"]}
    selection = produce_selection(tmp_path, "sst2", subsets, dict.fromkeys(subsets, 0.5))
    with track_step(STEP, str(tmp_path), {}) as tracker:
        kept = fine_tune_target(settings, RECIPE, prepared_data, selection, str(tmp_path), tracker)
    assert Path(kept.uri).parent.name == "fine_tuned_models"
    assert kept.metadata == candidate.metadata
    assert (fetch(kept) / "model.safetensors").read_bytes() == b"weights"
    assert not (tmp_path / "fine_tuning_runs").exists()
