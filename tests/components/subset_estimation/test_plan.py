"""Which runs come before the estimates are final, and how they are divided into groups."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from final_model_output import produce_final_model

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.confirmation import ConfirmationConfig
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Start, TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import RunGroup, base_digests, run_inputs, run_key
from gradsift.components.shared.records.planning import none_all_and_random
from gradsift.components.subset_estimation import plan
from gradsift.components.subset_estimation.plan import plan_first_round

S3 = "s3://bucket/run"
RECIPE = TrainingRecipe(steps=2, seed=5)
ALL = ["mr", "mr_flipped", "trec"]
Asked = tuple[list[str], int]


@pytest.fixture(scope="module")
def model(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> StepOutput:
    config = ModelConfig(base_model=str(tiny_encoder))
    return produce_final_model(tmp_path_factory.mktemp("model"), ["sst2", "mr"], config, RECIPE)


def calibration(
    data: StepOutput,
    model: StepOutput,
    config: CalibrationConfig,
    root: str = S3,
    parallel_runs: int = 2,
    start: Start = "base",
    meta: StepOutput | None = None,
    **recipe: float,
) -> list[RunGroup]:
    base = ModelConfig(base_model=model.metadata["base_model"])
    estimation = SubsetEstimationConfig(
        fine_tuning=TrainingRecipe(**{"steps": 2, "seed": 5, **recipe}), start=start
    )
    none, store = ConfirmationConfig(runs=0), StepOutput("", "", {})
    return plan_first_round(estimation, config, none, data, meta or model, store, base, root, parallel_runs)


def asked(groups: list[RunGroup]) -> list[Asked]:
    return [(run.subset, run.seed) for group in groups for run in group.runs if run.steps]


def keys(groups: list[RunGroup]) -> set[str]:
    return {run_key(group.settings, run) for group in groups for run in group.runs}


def test_calibration_runs_on_none_all_and_random_subsets_in_groups(
    prepared_data: StepOutput, model: StepOutput
) -> None:
    groups = calibration(prepared_data, model, CalibrationConfig(runs=4, seeds=2, seed=5))
    tasks = PreparedData(fetch(prepared_data)).auxiliary_tasks
    subsets = none_all_and_random(tasks, 4, 5)
    assert sorted(asked(groups)) == sorted((subset, seed) for subset in subsets for seed in (5, 6))
    assert [(group.purpose, group.number, len(group.runs)) for group in groups] == [
        ("calibration", number, 6) for number in range(2)
    ]
    assert [RunGroup.model_validate_json(group.model_dump_json()) for group in groups] == groups


def test_without_calibration_nothing_is_planned(prepared_data: StepOutput, model: StepOutput) -> None:
    assert calibration(prepared_data, model, CalibrationConfig()) == []


def test_one_machine_gets_one_group(prepared_data: StepOutput, model: StepOutput, tmp_path: Path) -> None:
    [group] = calibration(prepared_data, model, CalibrationConfig(runs=4), root=str(tmp_path))
    assert len(group.runs) == 6


def test_the_key_of_a_run_covers_everything_that_decides_it(
    prepared_data: StepOutput, model: StepOutput
) -> None:
    known = keys(calibration(prepared_data, model, CalibrationConfig(runs=4)))
    assert len(known) == 6
    assert keys(calibration(prepared_data, model, CalibrationConfig(runs=4), epochs=9.0)) == known
    assert keys(calibration(prepared_data, model, CalibrationConfig(runs=4, seeds=2))) > known
    other_data = StepOutput(prepared_data.uri, "other", {})
    other_weights = StepOutput(model.uri, model.digest, {**model.metadata, "base_model_digest": "other"})
    for changed in (
        calibration(prepared_data, model, CalibrationConfig(runs=4), steps=3),
        calibration(prepared_data, model, CalibrationConfig(runs=4), learning_rate=1e-3),
        calibration(prepared_data, model, CalibrationConfig(runs=4), seed=6),
        calibration(prepared_data, other_weights, CalibrationConfig(runs=4)),
    ):
        assert not keys(changed) & known
    group = calibration(prepared_data, model, CalibrationConfig(runs=4))[0]
    for changes in ({"data": other_data.digest}, {"start": "meta"}, {"test_answers": False}):
        settings = group.settings.model_copy(update=changes)
        assert run_key(settings, group.runs[0]) not in known


def test_the_keys_of_runs_from_the_base_model_do_not_say_where_others_start(
    prepared_data: StepOutput, model: StepOutput
) -> None:
    """They are those that runs had before there was a choice."""
    [group] = calibration(prepared_data, model, CalibrationConfig(runs=4), parallel_runs=1)
    inputs = run_inputs(group.settings, group.runs[0])
    assert set(inputs) == {
        *("data", "start", "weights", "model", "recipe", "test_answers", "subset", "seed", "steps")
    }
    assert (inputs["start"], inputs["weights"]) == ("base", base_digests(model))


def test_epochs_are_turned_into_the_steps_of_each_subset(
    prepared_data: StepOutput, model: StepOutput
) -> None:
    groups = calibration(prepared_data, model, CalibrationConfig(runs=4), steps=0, epochs=1.0, batch_size=8)
    steps = {len(run.subset): run.steps for group in groups for run in group.runs}
    assert steps == {0: 4, 1: 8, 2: 12, 3: 16}


def test_runs_from_the_meta_trained_model_are_other_runs(
    prepared_data: StepOutput, model: StepOutput
) -> None:
    """Where it lies makes no difference."""
    config = CalibrationConfig(runs=4)

    def planned(meta: StepOutput) -> list[RunGroup]:
        return calibration(prepared_data, model, config, start="meta", meta=meta)

    groups = planned(model)
    assert {group.settings.start for group in groups} == {"meta"}
    assert not keys(groups) & keys(calibration(prepared_data, model, config))
    assert keys(planned(replace(model, uri="s3://bucket/elsewhere"))) == keys(groups)
    assert not keys(planned(replace(model, digest="other"))) & keys(groups)


@pytest.fixture
def promising(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the estimates promise most of one subset, and return what they are asked for."""
    asked_for: list[Any] = []

    def answer(
        config: Any, gradients: Any, root: str, trained: list[list[str]], count: int, **limits: Any
    ) -> list[list[str]]:
        assert limits["fairness"] is None
        asked_for.append((trained, count))
        return [["mr"]]

    monkeypatch.setattr(plan, "promising_subsets", answer)
    return asked_for


def confirming(
    data: StepOutput, model: StepOutput, runs: int, calibrate: CalibrationConfig, **estimation: Any
) -> list[RunGroup]:
    base = ModelConfig(base_model=model.metadata["base_model"])
    config = SubsetEstimationConfig(fine_tuning=RECIPE, **estimation)
    confirmation, store = ConfirmationConfig(runs=runs), StepOutput("", "", {})
    return plan_first_round(config, calibrate, confirmation, data, model, store, base, S3)


def test_a_choice_is_confirmed_by_none_all_and_what_promises_most_with_their_weights(
    prepared_data: StepOutput, model: StepOutput, promising: list[Any]
) -> None:
    [group] = confirming(prepared_data, model, 6, CalibrationConfig())
    assert asked([group]) == [([], 5), (ALL, 5), (["mr"], 5)]
    assert group.weights == "candidate_models"
    assert promising == [([[], ALL], 2)]


def test_random_subsets_count_as_trained_and_none_is_trained_twice(
    prepared_data: StepOutput, model: StepOutput, promising: list[Any]
) -> None:
    [group] = confirming(prepared_data, model, 6, CalibrationConfig(runs=4, seeds=2))
    assert len(set(keys([group]))) == len(group.runs)
    [(trained, _)] = promising
    assert len(trained) == 6
    once = [subset for subset, seed in asked([group]) if seed == 6]
    assert len(once) == 6, "further seeds are of the calibration runs alone"


def test_all_is_without_the_tasks_that_no_choice_may_hold(
    prepared_data: StepOutput, model: StepOutput, promising: list[Any]
) -> None:
    [group] = confirming(prepared_data, model, 3, CalibrationConfig(), excluded_tasks=["trec"])
    assert [subset for subset, _ in asked([group])] == [[], ["mr", "mr_flipped"], ["mr"]]
    assert promising[0][1] == 1
