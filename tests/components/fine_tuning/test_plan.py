"""Which runs are planned, and how they are divided into groups."""

from dataclasses import replace
from pathlib import Path

import pytest
from final_model_output import produce_final_model
from selection_output import produce_selection

from gradsift.components.fine_tuning.plan import plan_calibration, plan_comparisons
from gradsift.components.fine_tuning.subsets import none_all_and_random
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import RunGroup, run_inputs, run_key
from gradsift.components.shared.training.trained_model import base_digests

S3 = "s3://bucket/run"
RECIPE = TrainingRecipe(steps=2, seed=5)
ALL = ["mr", "mr_flipped", "trec"]
SUBSETS = {"selected": ["mr"], "all": ALL, "target_only": [], "random": ["mr"]}
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
    **recipe: float,
) -> list[RunGroup]:
    base = ModelConfig(base_model=model.metadata["base_model"])
    recipe = {"steps": 2, "seed": 5, **recipe}
    return plan_calibration(config, data, model, base, TrainingRecipe(**recipe), root, parallel_runs)


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


def test_as_many_groups_as_may_run_in_parallel(
    prepared_data: StepOutput, model: StepOutput, tmp_path: Path
) -> None:
    estimates = produce_selection(tmp_path, "sst2", SUBSETS, dict.fromkeys(SUBSETS, 0.5))
    for parallel, count in ((2, 2), (20, 4)):
        config = ComparisonConfig(seeds=1)
        assert len(plan_comparisons(config, prepared_data, estimates, model, S3, parallel)) == count


def test_comparisons_run_on_each_subset_once_a_seed_and_on_the_untrained_model(
    prepared_data: StepOutput, model: StepOutput, tmp_path: Path
) -> None:
    estimates = produce_selection(tmp_path, "sst2", SUBSETS, dict.fromkeys(SUBSETS, 0.5))
    config = ComparisonConfig(seeds=3, max_runs=6)
    [group] = plan_comparisons(config, prepared_data, estimates, model, str(tmp_path))
    assert asked([group]) == [(subset, seed) for subset in (["mr"], ALL, []) for seed in (5, 6)]
    assert all(run.steps == 2 for run in group.runs[:-1])
    assert group.runs[-1].model_dump() == {"subset": [], "seed": 0, "steps": 0}


def test_a_base_model_that_cannot_answer_is_left_out(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    config = ModelConfig(base_model=str(tiny_encoder), head="linear")
    model = produce_final_model(tmp_path, ["sst2", "mr"], config, RECIPE, answers_untrained=False)
    estimates = produce_selection(tmp_path, "sst2", SUBSETS, dict.fromkeys(SUBSETS, 0.5))
    [group] = plan_comparisons(ComparisonConfig(seeds=1), prepared_data, estimates, model, str(tmp_path))
    assert [run.steps for run in group.runs] == [2, 2, 2]


def test_calibration_on_none_and_all_are_the_comparisons_first_runs(
    prepared_data: StepOutput, model: StepOutput, tmp_path: Path
) -> None:
    estimates = produce_selection(tmp_path, "sst2", SUBSETS, dict.fromkeys(SUBSETS, 0.5))
    comparisons = plan_comparisons(ComparisonConfig(seeds=1), prepared_data, estimates, model, S3)
    compared = {run_key(group.settings, run): run for group in comparisons for run in group.runs}
    shared = keys(calibration(prepared_data, model, CalibrationConfig(runs=4))) & compared.keys()
    assert {tuple(compared[key].subset) for key in shared} >= {(), tuple(ALL)}


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


def test_runs_from_the_meta_trained_model_are_other_runs(
    prepared_data: StepOutput, model: StepOutput, tmp_path: Path
) -> None:
    """Where it lies makes no difference; a base model that cannot answer untrained is none of their business."""
    estimates = produce_selection(tmp_path, "sst2", SUBSETS, dict.fromkeys(SUBSETS, 0.5))
    config, base = CalibrationConfig(runs=4), ModelConfig(base_model=model.metadata["base_model"])

    def planned(meta: StepOutput) -> list[RunGroup]:
        return plan_calibration(config, prepared_data, meta, base, RECIPE, S3, start="meta")

    groups = planned(model)
    assert {group.settings.start for group in groups} == {"meta"}
    assert not keys(groups) & keys(calibration(prepared_data, model, config))
    assert keys(planned(replace(model, uri="s3://bucket/elsewhere"))) == keys(groups)
    assert not keys(planned(replace(model, digest="other"))) & keys(groups)

    mute = replace(model, metadata={**model.metadata, "answers_untrained": False})
    compared = plan_comparisons(ComparisonConfig(seeds=1), prepared_data, estimates, mute, S3, meta=model)
    assert [run.steps for group in compared for run in group.runs] == [2, 2, 2, 0]
    assert len(keys(compared) & keys(groups)) >= 2, "none and all are shared"


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
