"""Parameters given as text, and all of them checked before anything runs."""

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.pipelines.parameters import check_parameters, defaults, parse_settings


def test_settings_take_the_type_of_the_default() -> None:
    settings = [
        "meta_epochs=2",
        "fine_tune_steps=7",
        "model_train_embeddings=true",
        "prepare_auxiliary_tasks=mr, trec",
        'prepare_auxiliary_tasks=["mr","subj"]',
        "model_base_model=some/name=odd",
    ]
    assert parse_settings(settings) == {
        "meta_epochs": 2.0,
        "fine_tune_steps": 7,
        "model_train_embeddings": True,
        "prepare_auxiliary_tasks": ["mr", "subj"],
        "model_base_model": "some/name=odd",
    }
    assert parse_settings(["prepare_auxiliary_tasks=mr, trec"]) == {"prepare_auxiliary_tasks": ["mr", "trec"]}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("meta_epochs", "The setting 'meta_epochs' has no value: expected name=value."),
        ("bogus=1", "There is no parameter 'bogus'; see `gradsift parameters`."),
        ("seeds=1", "There is no parameter 'seeds'; did you mean"),
        ("evaluate_seeds=two", "Parameter evaluate_seeds is 'two': expected a whole number."),
        ("meta_epochs=much", "Parameter meta_epochs is 'much': expected a number."),
        ("model_train_embeddings=1", "Parameter model_train_embeddings is '1': expected true or false."),
    ],
)
def test_a_setting_that_is_no_parameter_or_of_another_type(setting: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_settings([setting])
    assert str(error.value).startswith(message)


def test_defaults_are_possible() -> None:
    check_parameters(defaults())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("prepare_max_rows_per_task=-1", "prepare_max_rows_per_task is -1: expected"),
        ("prepare_auxiliary_tasks=mr,sst2", "prepare_auxiliary_tasks holds the target 'sst2': expected"),
        ("model_head=mlp", "Parameter model_head is 'mlp': expected one of label_embedding, linear."),
        ("train_batch_size=0", "Parameter train_batch_size is 0: expected 1 or more."),
        ("train_precision=fp8", "Parameter train_precision is 'fp8': expected one of auto, bf16, float32."),
        ("fine_tune_learning_rate=0", "Parameter fine_tune_learning_rate is 0.0: expected a number above 0."),
        ("meta_sampling_exponent=2", "Parameter meta_sampling_exponent is 2.0: expected 0 to 1."),
        ("extract_blocks=3", "Parameter extract_dimension is 400: expected a multiple of the 3 blocks."),
        ("calibrate_runs=2", "Parameter calibrate_runs is 2: expected 0, or 4 or more."),
        ("estimate_ridge=-1", "estimate_ridge is -1.0: expected"),
        ("evaluate_seeds=0", "Parameter evaluate_seeds is 0: expected 1 or more."),
    ],
)
def test_an_impossible_value_is_named_as_the_pipeline_names_it(setting: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        check_parameters({**defaults(), **parse_settings([setting])})
    assert str(error.value).startswith(message)


def test_training_on_several_nodes_asks_for_more() -> None:
    on_nodes = {**defaults(), "train_nodes": 3, "resources_gpus": 2, "train_batch_size": 30}
    check_parameters(on_nodes)
    with pytest.raises(InputError) as error:
        check_parameters({**on_nodes, "output_uri": "/runs", "train_batch_size": 32})
    assert "train_nodes is 3: expected 1, as output_uri is a local path" in str(error.value)
    assert "train_batch_size is 32: expected a multiple of the 6 processes." in str(error.value)
    with pytest.raises(InputError, match=r"^Parameter train_nodes is 0: expected 1 or more\.$"):
        check_parameters({**defaults(), "train_nodes": 0})
