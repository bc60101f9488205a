"""All parameters together: possible by default, bounded, named in full, and sorted into the form and out of it."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.calibration import MIN_RUNS
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.pipeline_settings import (
    PipelineSettings,
    defaults,
    form_of,
    form_parameters,
    known_parameters,
    parameters_of,
    unknown_name,
)
from gradsift.components.shared.parameters.settings import MAX_SEED, SettingsError
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.subset_estimation.estimators.calibration import MIN_CALIBRATION_RUNS


def test_defaults_are_possible() -> None:
    settings = PipelineSettings.of({})
    assert settings == PipelineSettings.of(defaults())
    assert settings.data.target == "sst2"
    assert settings.fine_tuning.steps == 40
    assert settings.meta_training.steps == 0


def test_every_parameter_is_described_and_every_number_bounded() -> None:
    for name, parameter in known_parameters().items():
        assert parameter.description.endswith("."), name
        if parameter.kind in (int, float):
            bounds = ("ge", "gt", "le", "lt")
            limits = {name for each in parameter.info.metadata for name in bounds if hasattr(each, name)}
            assert limits & {"ge", "gt"}, name
            assert limits & {"le", "lt"}, name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("suite", "", "Parameter suite is '': expected a text that is not empty."),
        ("target", "", "Parameter target is '': expected a text that is not empty."),
        ("sources", ["mr", "sst2"], "Parameter sources holds the target 'sst2': expected other tasks"),
        ("sources", ["mr", "mr"], "Parameter sources holds 'mr' more than once: expected each task once."),
        ("prepare_max_rows_per_task", -1, "Parameter prepare_max_rows_per_task is -1: expected 0 or more."),
        ("prepare_seed", 2**32, "Parameter prepare_seed is 4294967296: expected 4,294,967,295 or less."),
        ("model_head", "mlp", "Parameter model_head is 'mlp': expected one of label_embedding, linear."),
        (
            "model_max_length",
            3,
            "Parameter model_max_length is 3: expected 4 or more, or 0 for what the rows need.",
        ),
        ("model_lora_dropout", 1.0, "Parameter model_lora_dropout is 1: expected a number below 1."),
        ("model_lora_targets", " , ", "Parameter model_lora_targets is empty: expected 'auto' or names"),
        ("train_batch_size", 0, "Parameter train_batch_size is 0: expected 1 or more."),
        ("train_micro_batch_size", -1, "Parameter train_micro_batch_size is -1: expected 0 or more."),
        (
            "train_precision",
            "fp8",
            "Parameter train_precision is 'fp8': expected one of auto, bf16, float32.",
        ),
        ("train_zero_stage", 4, "Parameter train_zero_stage is 4: expected 3 or less."),
        ("train_processes", 3, "Parameter train_batch_size is 32: expected a multiple of the 3 processes."),
        ("train_weight_decay", math.nan, "Parameter train_weight_decay is nan: expected"),
        ("train_nodes", 0, "Parameter train_nodes is 0: expected 1 or more."),
        ("meta_epochs", 0, "Parameter meta_epochs is 0.0: expected a number above 0, as the number of steps"),
        ("meta_epochs", math.inf, "Parameter meta_epochs is inf: expected 10,000 or less."),
        ("meta_sampling_exponent", 2, "Parameter meta_sampling_exponent is 2: expected 0 to 1."),
        (
            "meta_sampler",
            "l2s",
            "Parameter meta_sampler is 'l2s': expected prepare_periods 'year', 'quarter' or 'month', as it draws "
            "from past periods.",
        ),
        (
            "meta_sampler",
            "recency",
            "Parameter meta_sampler is 'recency': expected fine_tune_start 'meta', or the schedule has no effect "
            "on the fine-tuned model.",
        ),
        (
            "meta_schedule_from",
            "champion",
            "Parameter meta_schedule_from is 'champion': expected 'none' where meta_sampler is 'size', as 'l2s' "
            "alone learns a schedule.",
        ),
        (
            "meta_schedule_from",
            "champion",
            "Parameter meta_schedule_from is 'champion': expected promote_model_name, the registered model whose "
            "champion has the schedule.",
        ),
        (
            "meta_schedule_from",
            "best",
            "Parameter meta_schedule_from is 'best': expected one of none, champion.",
        ),
        ("fine_tune_learning_rate", 0, "Parameter fine_tune_learning_rate is 0: expected a number above 0."),
        ("fine_tune_learning_rate", math.nan, "Parameter fine_tune_learning_rate is nan: expected"),
        ("extract_blocks", 3, "Parameter extract_dimension is 400: expected a multiple of the 3 blocks."),
        (
            "extract_projection_width",
            399,
            "Parameter extract_projection_width is 399: expected at least extract_dimension (400).",
        ),
        ("extract_pods", 10**9, "Parameter extract_pods is 1000000000: expected 1,000 or less."),
        (
            "fine_tune_scopes",
            ["all", "lats"],
            "Parameter fine_tune_scopes[1] is 'lats': expected one of all, early, middle, late, embeddings, head.",
        ),
        ("fine_tune_scopes", [], "Parameter fine_tune_scopes is []: expected a list that is not empty."),
        (
            "fine_tune_scopes",
            ["late", "late"],
            "Parameter fine_tune_scopes holds 'late' more than once: expected each scope once.",
        ),
        ("fine_tune_rates", [0], "Parameter fine_tune_rates[0] is 0: expected a number above 0."),
        ("extract_dtype", "int8", "Parameter extract_dtype is 'int8': expected one of float16, float32."),
        ("calibrate_runs", 3, "Parameter calibrate_runs is 3: expected 0, or 4 or more."),
        ("confirm_runs", 2, "Parameter confirm_runs is 2: expected 0, or 3 or more."),
        ("calibrate_runs", -1, "Parameter calibrate_runs is -1: expected 0 or more."),
        ("estimate_ridge", -1, "Parameter estimate_ridge is -1: expected 1e-08 or more."),
        ("estimate_ridge", math.nan, "Parameter estimate_ridge is nan: expected"),
        (
            "estimate_subset_fraction",
            0.0,
            "Parameter estimate_subset_fraction is 0: expected a number above 0",
        ),
        ("estimate_required_tasks", ["a", "a"], "Parameter estimate_required_tasks holds 'a' more than once"),
        ("evaluate_seeds", 0, "Parameter evaluate_seeds is 0: expected 1 or more."),
        ("evaluate_bootstrap", 10**12, "Parameter evaluate_bootstrap is 1000000000000: expected 1,000,000"),
        ("promote_model_name", "a/b", "Parameter promote_model_name is 'a/b': expected a name without"),
        ("promote_min_gain", 2.0, "Parameter promote_min_gain is 2: expected 0 to 1."),
        ("promote_min_gain", -0.01, "Parameter promote_min_gain is -0.01: expected 0 to 1."),
        ("promote_confidence", 1.0, "Parameter promote_confidence is 1: expected a number below 1."),
        ("promote_confidence", -0.1, "Parameter promote_confidence is -0.1: expected 0 or more."),
        ("gpus", -1, "Parameter gpus is -1: expected 0 or more."),
        ("gpu_type", "A100", "Parameter gpu_type is 'A100': expected a resource's name"),
        ("memory", "16 GB", "Parameter memory is '16 GB': expected a quantity such as '4' or '16Gi'."),
        ("resources_small_cpu", "two", "Parameter resources_small_cpu is 'two': expected a quantity"),
        ("platform_secret", "No name", "Parameter platform_secret is 'No name': expected the name of"),
        ("platform_settings", "gradsift", "Parameter platform_settings is 'gradsift', as platform_secret is"),
        ("platform_node_selector", {"a": 1}, "Parameter platform_node_selector['a'] is 1: expected a text."),
        (
            "platform_tolerations",
            [{"kee": "x"}],
            "Parameter platform_tolerations holds {'kee': 'x'}: expected",
        ),
        ("bogus", 1, "There is no parameter 'bogus'; see `gradsift parameters`."),
    ],
)
def test_an_impossible_value_is_named_as_the_pipeline_names_it(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        PipelineSettings.of({name: value})
    assert any(problem.startswith(message) for problem in error.value.problems), error.value


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"estimate_required_tasks": ["mr", "trec"], "estimate_excluded_tasks": ["trec"]},
            "Parameter estimate_required_tasks holds 'trec', which estimate_excluded_tasks holds too",
        ),
        (
            {"estimate_required_tasks": ["mr", "trec"], "estimate_max_tasks": 1},
            "Parameter estimate_max_tasks is 1: expected at least the 2 required tasks.",
        ),
        (
            {"train_offload": "parameters", "train_zero_stage": 2},
            "Parameter train_zero_stage is 2: expected 3 or more where train_offload is 'parameters'.",
        ),
        (
            {"extract_base_weights": True, "model_head": "linear"},
            "Parameter model_head is 'linear': expected 'label_embedding' where extract_base_weights is true",
        ),
        (
            {"train_nodes": 3, "gpus": 2, "output_uri": "/runs", "train_batch_size": 30},
            "Parameter train_nodes is 3: expected 1, as output_uri is a local path",
        ),
        (
            {"extract_pods": 2, "output_uri": "/runs"},
            "Parameter extract_pods is 2: expected 1, as output_uri is a local path",
        ),
        (
            {"fine_tune_scopes": ["all", "late"], "model_head": "linear"},
            "Parameter fine_tune_scopes holds 'late': expected all or head, or fine_tune_start 'meta', as the head",
        ),
        (
            {"fine_tune_scopes": ["head"], "model_head": "linear"},
            "Parameter extract_parameters is 'shared': expected 'trained' where fine_tune_scopes is 'head', as",
        ),
        (
            {"train_nodes": 3, "gpus": 2, "train_batch_size": 32},
            "Parameter train_batch_size is 32: expected a multiple of the 6 processes.",
        ),
    ],
)
def test_a_rule_between_parameters_is_a_sentence(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        PipelineSettings.of(parameters)
    [problem] = error.value.problems
    assert problem.startswith(message)


def test_training_on_several_nodes_with_gpus_is_possible() -> None:
    PipelineSettings.of({"train_nodes": 3, "gpus": 2, "train_batch_size": 30})


def test_everything_wrong_is_said_at_once() -> None:
    wrong = {"extract_probes": 0, "evaluate_seeds": 0, "target": "", "bogus": 1}
    with pytest.raises(SettingsError) as error:
        PipelineSettings.of(wrong)
    assert len(error.value.problems) == len(wrong)


def test_the_form_is_short_and_alphabetical() -> None:
    names = list(form_parameters())
    assert names == sorted(names)
    assert len(names) <= 20


@given(st.dictionaries(st.sampled_from(sorted(known_parameters())), st.integers()))
def test_parameters_are_sorted_into_the_form_and_out_of_it(parameters: dict[str, Any]) -> None:
    form = form_of(parameters)
    assert list(form) == [*form_parameters(), "settings"], "a clone of the run shows what it ran with"
    assert {**defaults(), **parameters_of(form)} == {**defaults(), **parameters}


def test_a_field_of_the_form_is_not_given_in_settings_too() -> None:
    with pytest.raises(InputError) as error:
        parameters_of({"target": "mr", "settings": {"target": "mr", "meta_steps": 3}})
    assert str(error.value) == (
        "Parameter settings holds 'target': expected it in the form's field of that name."
    )
    assert parameters_of({"target": "mr", "settings": None}) == {"target": "mr"}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("prepare_target", "target"), ("resources_gpus", "gpus"), ("fine_tune_step", "fine_tune_steps")],
)
def test_a_name_that_is_none_is_answered_by_the_nearest(name: str, nearest: str) -> None:
    assert nearest in unknown_name(name)


@pytest.mark.parametrize(
    ("recipe", "rows", "steps"),
    [
        (TrainingRecipe(steps=7), 1000, 7),
        (TrainingRecipe(epochs=2, batch_size=32), 100, 7),
        (TrainingRecipe(epochs=2, batch_size=32), 96, 6),
        (TrainingRecipe(epochs=0.01, batch_size=32), 10, 1),
        (TrainingRecipe(steps=7, epochs=0), 10, 7),
    ],
)
def test_optimizer_steps(recipe: TrainingRecipe, rows: int, steps: int) -> None:
    assert recipe.optimizer_steps(rows) == steps


@given(st.integers(1, 200), st.integers(1, 8), st.integers(0, 200), st.integers(1, 64))
def test_a_micro_batch_is_the_largest_that_divides_a_processs_rows(
    rows: int, processes: int, limit: int, parts: int
) -> None:
    recipe = TrainingRecipe(batch_size=rows * processes, micro_batch_size=limit)
    divisors = [size for size in range(1, rows + 1) if rows % size == 0]
    allowed = [size for size in divisors if size <= (limit or rows) and size * parts <= rows]
    assert recipe.rows_at_once(processes, parts) == max(allowed, default=1)


def test_a_recipe_is_all_trainings_settings_and_its_own() -> None:
    settings = PipelineSettings.of({"train_batch_size": 8, "fine_tune_steps": 9, "meta_steps": 2})
    recipe = TrainingRecipe.of(settings.training, settings.fine_tuning)
    assert (recipe.batch_size, recipe.steps, recipe.learning_rate) == (8, 9, 5e-5)


@pytest.mark.parametrize(("steps", "scaling"), [(40, "per_row"), (0, "absolute")])
def test_the_ridge_follows_how_training_is_counted(steps: int, scaling: str) -> None:
    recipe = TrainingRecipe(steps=steps)
    config = SubsetEstimationConfig.of(PipelineSettings.of({}).estimation, recipe, TrainingRecipe(), "meta")
    assert (config.fine_tuning, config.ridge_scaling, config.start) == (recipe, scaling, "meta")


def test_the_fewest_runs_with_none_and_all_are_enough_to_calibrate() -> None:
    assert MIN_RUNS + 2 >= MIN_CALIBRATION_RUNS


@pytest.mark.parametrize(
    ("seeds", "max_runs", "subsets", "expected"),
    [(3, 12, 4, 3), (3, 12, 5, 2), (3, 12, 2, 3), (3, 12, 1, 3), (3, 2, 4, 1), (1, 12, 4, 1)],
)
def test_runs_are_cut_to_fit_down_to_one_each(seeds: int, max_runs: int, subsets: int, expected: int) -> None:
    assert ComparisonConfig(seeds=seeds, max_runs=max_runs).seeds_for(subsets) == expected


@pytest.mark.parametrize("name", ["evaluate_seeds", "calibrate_seeds"])
def test_seeds_that_count_up_stay_below_the_largest(name: str) -> None:
    PipelineSettings.of({"fine_tune_seed": MAX_SEED - 4, "evaluate_seeds": 1, name: 5})
    with pytest.raises(
        SettingsError, match=rf"fine_tune_seed is .*: expected at most 4,294,967,291, as {name} counts"
    ):
        PipelineSettings.of({"fine_tune_seed": MAX_SEED - 3, "evaluate_seeds": 1, name: 5})
