"""Target fine-tuning as a step: the base model, trained on the target and the selected tasks alone."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.trained_model import training_result
from gradsift.components.target_finetuning.step import STEP, fine_tune_target

RECIPE = TrainingRecipe(steps=3, batch_size=8, precision="float32", processes=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def selection_of(tasks: list[str], root: Path) -> StepOutput:
    selection = Selection(
        suite="demo",
        target="sst2",
        method="forward_stepwise",
        estimator="gauss_newton",
        ridge=1.0,
        ridge_scaling="per_row",
        auxiliary_tasks=["mr", "trec", "mr_flipped"],
        selected=tasks,
        estimated_loss=0.5,
        standard_error=0.1,
        reason="They help.",
        path=[],
        task_scores=[],
        methods=[],
        comparisons={"selected": tasks},
        subsets_estimated=8,
        seconds=0.1,
    )

    def write(folder: Path) -> dict[str, Any]:
        selection.write(folder)
        return {}

    return produce(str(root), "subset_estimation", {"selected": tasks}, write)


def run(root: Path, tiny_encoder: Path, data: StepOutput, tasks: list[str]) -> StepOutput:
    model = ModelConfig(base_model=str(tiny_encoder))
    with track_step(STEP, str(root), {}) as tracker:
        return fine_tune_target(model, RECIPE, data, selection_of(tasks, root), str(root), tracker)


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


def test_the_final_model_is_recorded(output: StepOutput, root: Path) -> None:
    log = read_events((root / "tracking" / "local" / f"{STEP}.jsonl").read_bytes())
    [model] = [event for event in log if event["event"] == "model"]
    assert (model["uri"], model["digest"]) == (output.uri, output.digest)


def test_a_second_call_finds_the_model(
    output: StepOutput, tiny_encoder: Path, prepared_data: StepOutput, root: Path
) -> None:
    again = run(root, tiny_encoder, prepared_data, ["trec"])
    assert again.reused
    assert (again.uri, again.digest) == (output.uri, output.digest)


def test_another_selection_even_an_empty_one_makes_another_model(
    output: StepOutput, tiny_encoder: Path, prepared_data: StepOutput, root: Path
) -> None:
    other = run(root, tiny_encoder, prepared_data, [])
    assert other.uri != output.uri
    assert training_result(other)["tasks"] == ["sst2"]
