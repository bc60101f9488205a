"""Parameters given as text, on the command line and in files."""

from pathlib import Path

import pytest

from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings, defaults
from gradsift.pipelines.parameters import (
    example_file,
    given_parameters,
    parameters_yaml,
    parse_settings,
    read_parameters,
)


def test_settings_take_the_type_of_the_default() -> None:
    settings = [
        "meta_epochs=2",
        "fine_tune_steps=7",
        "model_train_embeddings=true",
        'sources=["mr","subj"]',
        "base_model=some/name=odd",
    ]
    assert parse_settings(settings) == {
        "meta_epochs": 2.0,
        "fine_tune_steps": 7,
        "model_train_embeddings": True,
        "sources": ["mr", "subj"],
        "base_model": "some/name=odd",
    }
    assert parse_settings(["sources=mr, trec"]) == {"sources": ["mr", "trec"]}
    for text in ("5e-5, 1e-4", "[5e-5, 1e-4]"):
        assert parse_settings([f"fine_tune_rates={text}"]) == {"fine_tune_rates": [5e-5, 1e-4]}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("meta_epochs", "The setting 'meta_epochs' has no value: expected name=value."),
        ("bogus=1", "There is no parameter 'bogus'; see `gradsift parameters`."),
        ("seeds=1", "There is no parameter 'seeds': did you mean"),
        ("evaluate_seeds=two", "Parameter evaluate_seeds is 'two': expected a whole number."),
        ("meta_epochs=much", "Parameter meta_epochs is 'much': expected a number."),
        ("model_train_embeddings=1", "Parameter model_train_embeddings is '1': expected true or false."),
    ],
)
def test_a_setting_that_is_no_parameter_or_of_another_type(setting: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_settings([setting])
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("settings", [["meta_seed=1", "meta_seed=1"], ["target=mr", "target=trec"]])
def test_a_parameter_given_twice_is_refused(settings: list[str]) -> None:
    with pytest.raises(InputError, match=r"^Parameter \w+ is given twice: expected one value\.$"):
        parse_settings(settings)


def test_an_option_and_a_setting_do_not_give_the_same_parameter() -> None:
    with pytest.raises(InputError, match="Parameter target is given twice: expected it as an option or by"):
        given_parameters({"target": "mr", "suite": None}, settings=["target=trec"])


def test_options_and_settings_go_before_a_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("target: trec\nmeta_seed: 5\nfine_tune_rates: [5e-5, 1]\nsources: [mr]\n")
    given = given_parameters({"target": "mr"}, file, ["meta_seed=6"])
    assert given == {"target": "mr", "meta_seed": 6, "fine_tune_rates": [5e-5, 1], "sources": ["mr"]}


def test_the_file_of_the_second_demo_is_sound() -> None:
    given = given_parameters({}, Path(__file__).parents[2] / "pipelines" / "demo_lm.yaml")
    assert PipelineSettings.of(given)
    assert (given["suite"], given["base_model"]) == ("demo-lm", "smollm2-135m-instruct")


@pytest.mark.parametrize(("example", "suite"), [("groups", "demo-groups"), ("periods", "demo-periods")])
def test_the_file_of_an_example_is_sound_and_names_its_suite_and_its_place(example: str, suite: str) -> None:
    given = given_parameters({}, example_file(example))
    assert PipelineSettings.of({**defaults(), **given})
    assert (given["suite"], given["output_uri"]) == (suite, f"gradsift-run-{example}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("target: [", r"is not valid YAML in line \d \(.+\): expected a mapping of parameters"),
        ("- target", "is not a mapping of parameters: expected lines such as"),
        ("", "is not a mapping of parameters"),
        ("prepare_target: mr", "There is no parameter 'prepare_target': did you mean target"),
        ("evaluate_seeds: two", "Parameter evaluate_seeds is 'two': expected a whole number"),
        ("evaluate_seeds: null", "Parameter evaluate_seeds is 'null': expected a whole number"),
        ("evaluate_seeds: true", "Parameter evaluate_seeds is 'true': expected a whole number"),
        ("target: null", "Parameter target is 'null': expected a text"),
        ("target: [a]", "Parameter target is '.*': expected a text"),
        ("sources: {a: 1}", "Parameter sources is '.*': expected a list"),
        ("platform_node_selector: [a]", "Parameter platform_node_selector is '.*': expected a JSON mapping"),
        ("target: a\ntarget: b", r"is not valid YAML in line 2 \(the key 'target' is there twice\)"),
    ],
)
def test_a_file_that_holds_no_parameters_is_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_parameters(file)
    assert str(file) in str(error.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^Cannot read .*/none\.yaml: it does not exist\.$"):
        read_parameters(tmp_path / "none.yaml")


def test_the_file_to_edit_holds_every_parameter_with_its_default(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(parameters_yaml())
    assert read_parameters(file) == defaults()
