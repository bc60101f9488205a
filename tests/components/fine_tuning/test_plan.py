"""Which runs are planned, and how they are divided into groups."""

from pathlib import Path

import pytest
from final_model_output import produce_final_model
from selection_output import produce_selection

from gradsift.components.fine_tuning.plan import plan_comparisons
from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.fine_tuning_runs import Layers, RunGroup, run_key, run_recipe
from gradsift.components.shared.records.scope_sweep import ScopeSweep, TriedLayers

S3 = "s3://bucket/run"
RECIPE = TrainingRecipe(steps=2, seed=5)
ALL = ["mr", "mr_flipped", "trec"]
SUBSETS = {"selected": ["mr"], "all": ALL, "target_only": [], "random": ["mr"]}
Asked = tuple[list[str], int]


@pytest.fixture(scope="module")
def model(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> StepOutput:
    config = ModelConfig(base_model=str(tiny_encoder))
    return produce_final_model(tmp_path_factory.mktemp("model"), ["sst2", "mr"], config, RECIPE)


def asked(groups: list[RunGroup]) -> list[Asked]:
    return [(run.subset, run.seed) for group in groups for run in group.runs if run.steps]


def keys(groups: list[RunGroup]) -> set[str]:
    return {run_key(group.settings, run) for group in groups for run in group.runs}


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


def test_where_a_part_of_the_layers_is_trained_the_chosen_subset_is_compared_with_all_of_them(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    """At the rate that the sweep found best for all layers, which is not that of the part."""
    config = ModelConfig(base_model=str(tiny_encoder))
    recipe = RECIPE.model_copy(update={"scope": "late", "learning_rate": 1e-3})
    model = produce_final_model(tmp_path, ["sst2", "mr"], config, recipe)
    estimates = produce_selection(tmp_path, "sst2", SUBSETS, dict.fromkeys(SUBSETS, 0.5))
    best = Layers(scope="all", learning_rate=2e-4)
    exact = Interval(mean=0.0, low=0.0, high=0.0)
    tried = [
        TriedLayers(
            layers=layers,
            trained_parameters=1,
            seconds=1.0,
            val_loss=0.5,
            standard_error=0.1,
            difference=exact,
            chosen=layers is not best,
        )
        for layers in (best, Layers(scope="late", learning_rate=1e-3))
    ]
    found = ScopeSweep(tried=tried, reference=best, reason="")
    sweep = produce(
        str(tmp_path), "fine_tuning", {}, lambda folder: found.write(folder) or {}, "scope_sweeps"
    )
    for given, rate in ((sweep, 2e-4), (None, 1e-3)):
        [group] = plan_comparisons(
            ComparisonConfig(seeds=2, max_runs=8), prepared_data, estimates, model, str(tmp_path), sweep=given
        )
        assert run_recipe(group.settings, group.runs[0]).scope == "late"
        with_all = [run for run in group.runs if run.layers]
        assert [(run.subset, run.seed) for run in with_all] == [(["mr"], 5), (["mr"], 6)]
        assert all(run.layers == Layers(scope="all", learning_rate=rate) for run in with_all)
        assert len(group.runs) == 9
