"""What preflight resolves: each step's settings, the texts of the pods' resources, the digest of what decides."""

import json
from typing import Any

import pytest

from gradsift.components.preflight.step_settings import pods, settings_digest, step_settings
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import TrainingRecipe


def test_every_step_is_given_json_with_the_run_root() -> None:
    resolved = step_settings(PipelineSettings.of({"output_uri": "/runs"}))
    assert json.loads(json.dumps(resolved)) == resolved
    assert {each["output_uri"] for each in resolved.values()} == {"/runs"}


def test_a_parameter_reaches_the_steps_that_read_it() -> None:
    resolved = step_settings(
        PipelineSettings.of(
            {
                "meta_seed": 7,
                "fine_tune_steps": 0,
                "train_batch_size": 8,
                "evaluate_seeds": 2,
                "evaluate_bootstrap": 9,
                "train_parallel_runs": 2,
                "fine_tune_start": "meta",
            }
        )
    )
    assert resolved["meta_training"]["recipe"]["seed"] == 7
    assert {resolved[step]["recipe"]["batch_size"] for step in ("meta_training", "fine_tuning")} == {8}
    estimation = SubsetEstimationConfig(**resolved["subset_estimation"]["config"])
    assert (estimation.ridge_scaling, estimation.start) == ("absolute", "meta")
    assert estimation.fine_tuning == TrainingRecipe(**resolved["fine_tuning"]["recipe"])
    assert estimation.meta_training == TrainingRecipe(**resolved["meta_training"]["recipe"])
    assert resolved["fine_tuning"]["comparisons"] == {"seeds": 2}
    assert resolved["evaluation"]["config"] == {"bootstrap": 9}
    assert resolved["fine_tuning"]["start"] == {"start": "meta"}
    assert resolved["fine_tuning"]["groups"] == {"parallel_runs": 2}
    assert resolved["data_preparation"]["digest"] == resolved["promotion"]["digest"]


@pytest.mark.parametrize(
    ("scopes", "rates", "of_runs", "rate", "of_gradients"),
    [
        (["late"], [], "late", 5e-5, "late"),
        (["all"], [1e-4], "all", 1e-4, "all"),
        (["middle", "late"], [2e-4, 1e-4], "middle", 2e-4, "all"),
    ],
)
def test_runs_train_the_first_scope_at_the_first_rate_and_gradients_are_of_a_single_scope(
    scopes: list[str], rates: list[float], of_runs: str, rate: float, of_gradients: str
) -> None:
    parameters = {"fine_tune_scopes": scopes, "fine_tune_rates": rates}
    resolved = step_settings(PipelineSettings.of(parameters))
    recipe = TrainingRecipe(**resolved["fine_tuning"]["recipe"])
    assert (recipe.scope, recipe.learning_rate) == (of_runs, rate)
    assert SubsetEstimationConfig(**resolved["subset_estimation"]["config"]).fine_tuning == recipe
    extraction = GradientExtractionConfig(**resolved["gradient_extraction"]["config"])
    assert extraction.scope == of_gradients
    assert TrainingRecipe(**resolved["meta_training"]["recipe"]).scope == "all"


def test_a_sampler_reaches_meta_training_alone_and_the_default_leaves_no_trace() -> None:
    usual, given = PipelineSettings.of({}), {"meta_sampler": "derts", "meta_max_tasks": 3}
    assert "sampling" not in step_settings(usual)["meta_training"]
    sampled = PipelineSettings.of(given)
    resolved = step_settings(sampled)
    assert resolved["meta_training"]["sampling"] == {"sampler": "derts", "max_tasks": 3}
    for step, settings in step_settings(usual).items():
        if step not in ("meta_training", "data_preparation", "promotion"):
            assert resolved[step] == settings
    assert settings_digest(sampled) != settings_digest(usual)


def test_where_a_schedule_begins_reaches_data_preparation_alone_which_asks_the_registry() -> None:
    given = {"prepare_periods": "year", "meta_sampler": "l2s", "fine_tune_start": "meta"}
    given |= {"promote_model_name": "reviews"}
    usual, continued = (
        PipelineSettings.of(given),
        PipelineSettings.of({**given, "meta_schedule_from": "champion"}),
    )
    before, after = step_settings(usual), step_settings(continued)
    assert after["data_preparation"].pop("schedule_from") == "champion"
    assert "schedule_from" not in before["data_preparation"]
    for step in ("data_preparation", "promotion"):
        assert after[step].pop("digest") != before[step].pop("digest")
    assert after == before


def test_the_periods_reach_data_preparation_alone() -> None:
    usual, cut = (
        step_settings(PipelineSettings.of({})),
        step_settings(PipelineSettings.of({"prepare_periods": "year"})),
    )
    assert cut["data_preparation"]["config"] == {"periods": "year"}
    assert {name for name in usual if usual[name] != cut[name]} == {"data_preparation"}


LARGE, SMALL = ("64", "512Gi", "8"), ("2", "8Gi", "0")


@pytest.mark.parametrize(
    ("parameters", "training", "extraction", "conclusion"),
    [
        ({}, LARGE, LARGE, SMALL),
        ({"train_nodes": 2}, SMALL, LARGE, SMALL),
        ({"extract_pods": 2}, LARGE, SMALL, SMALL),
        ({"promote_model_name": "model"}, LARGE, LARGE, LARGE),
    ],
    ids=["default", "two nodes", "two extraction pods", "registered"],
)
def test_pods_are_large_where_they_compute_with_a_model_themselves(
    parameters: dict[str, Any], training: tuple[str], extraction: tuple[str], conclusion: tuple[str]
) -> None:
    given = {"cpu": "64", "memory": "512Gi", "gpus": 8, "gpu_type": "amd.com/gpu", **parameters}
    settings = PipelineSettings.of({"output_uri": "s3://bucket/runs", **given})
    texts = pods(settings)
    assert all(isinstance(text, str) for text in texts.values())
    for kind, expected in {"training": training, "extraction": extraction, "conclusion": conclusion}.items():
        assert tuple(texts[f"{kind}_{name}"] for name in ("cpu", "memory", "gpus")) == expected, kind
    steps = step_settings(settings)
    for step, kind in {"meta_training": training, "gradient_extraction": extraction}.items():
        if kind is LARGE:
            assert steps[step]["gpus"] == 8
        else:
            assert steps[step]["node_resources"] == {"cpu": "64", "memory": "512Gi", "amd.com/gpu": 8}


@pytest.mark.parametrize(
    ("name", "value", "decides"),
    [
        ("meta_seed", 1, True),
        ("fine_tune_steps", 41, True),
        ("fine_tune_start", "meta", True),
        ("fine_tune_scopes", ["late"], True),
        ("fine_tune_scopes", ["all"], False),
        ("train_batch_size", 64, True),
        ("base_model", "other", True),
        ("model_max_length", 64, True),
        ("extract_dimension", 800, True),
        ("calibrate_runs", 4, True),
        ("estimate_ridge", 1.0, True),
        ("evaluate_seeds", 1, True),
        ("extract_pods", 2, False),
        ("train_parallel_runs", 2, False),
        ("extract_processes", 2, False),
        ("output_uri", "/other", False),
        ("target", "mr", False),
        ("promote_model_name", "name", False),
        ("gpus", 2, False),
        ("platform_secret", "other", False),
    ],
)
def test_the_digest_of_settings_changes_with_what_decides_the_result(
    name: str, value: Any, decides: bool
) -> None:
    changed = settings_digest(PipelineSettings.of({name: value}))
    assert (changed != settings_digest(PipelineSettings.of({}))) is decides


def test_groups_reach_the_steps_that_compare_or_limit_them_and_no_step_where_there_are_none() -> None:
    group = {"fairness_group": "male", "fairness_positive": "yes", "fairness_limit": 0}
    resolved = step_settings(PipelineSettings.of(group))
    expected = {"group": "male", "positive": "yes", "limit": 0}
    told = {step for step, settings in resolved.items() if settings.get("fairness") == expected}
    assert told == {"data_preparation", "meta_training", "subset_estimation", "fine_tuning", "evaluation"}
    assert all("fairness" not in settings for settings in step_settings(PipelineSettings.of({})).values())
    changed = settings_digest(PipelineSettings.of(group))
    assert changed != settings_digest(PipelineSettings.of({}))
