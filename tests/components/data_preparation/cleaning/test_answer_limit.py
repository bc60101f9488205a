"""Which rows a model cannot answer is known before anything is trained, without any model library."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_language_models import THINKING_TEMPLATE, make_base

from gradsift.components.data_preparation.cleaning.answer_limit import answer_limit
from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.parameters.model import ModelConfig

LENGTHS = (1, 3, 9, 30)


@pytest.fixture
def mixed(suite: Any) -> Any:
    """The small suite with a generation task whose completions have so many words."""
    rows = [
        {"id": f"{length}", "prompt": f"say {length} " * 20, "completion": "one " * length}
        for length in LENGTHS
    ]
    suite.write_rows("saying.jsonl", rows)
    suite.manifest["tasks"].append({"name": "saying", "splits": {"train": {"file": "saying.jsonl"}}})
    return suite


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_what_does_not_fit_is_left_out_and_the_rest_can_be_encoded(
    mixed: Any, tmp_path: Path, name: str
) -> None:
    config = ModelConfig(base_model=str(make_base(tmp_path / "base", name)), max_length=24)
    output = prepare_data(mixed.config(), str(tmp_path / "run"), config)
    data = PreparedData(fetch(output))
    assert data.task("saying").kind == "generation"
    assert [row["id"] for row in data.split("saying", "train")] == ["1", "3", "9"]
    statistics = json.loads((data.folder / "statistics.json").read_text())
    removed = {each["task"]: each["removed"]["train"] for each in statistics}
    assert removed == {"films": {}, "books": {}, "books_flipped": {}, "saying": {"too_long": 1}}
    cut = {each["task"]: each["cut"]["train"] for each in statistics}
    assert cut["saying"] == 3
    model = from_base(config, data)
    for task in data.tasks:
        examples = model.encode(data.split(task.name, "train"), task.name)
        for example in examples:
            sizes = [len(example["input_ids"]), len(example["label"])]
            assert (max(sizes) if name == "t5" else sum(sizes)) <= 24


def test_a_row_that_the_template_does_not_write_whole_is_named(mixed: Any, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama", chat=True)
    (base / "chat_template.jinja").write_text(THINKING_TEMPLATE)
    mixed.write_rows("saying.jsonl", [{"id": "7", "prompt": "say", "completion": "I think</think>one"}])
    with pytest.raises(InputError) as caught:
        prepare_data(mixed.config(), str(tmp_path / "run"), ModelConfig(base_model=str(base), max_length=64))
    assert str(caught.value) == (
        "Row '7' of task 'saying': The chat template leaves out or changes a message of the conversation: "
        "expected prompt_form 'plain' for this base model."
    )


def test_another_limit_is_another_output_and_an_encoder_has_none(
    suite: Any, tiny_encoder: Path, tmp_path: Path
) -> None:
    base = str(make_base(tmp_path / "base", "llama"))
    root = str(tmp_path / "run")

    def key(model: ModelConfig | None) -> str:
        return prepare_data(suite.config(), root, model).uri

    assert key(ModelConfig(base_model=str(tiny_encoder))) == key(None)
    long, short = (ModelConfig(base_model=base, max_length=length) for length in (64, 32))
    assert len({key(None), key(long), key(short)}) == 3
    assert key(ModelConfig(base_model=base, max_length=64, lora_rank=2)) == key(long)


def test_an_encoder_does_not_write(mixed: Any, tiny_encoder: Path) -> None:
    suite = mixed.read()
    with pytest.raises(InputError) as caught:
        answer_limit(ModelConfig(base_model=str(tiny_encoder)), suite)
    assert str(caught.value) == (
        f"{suite.where}: task 'saying' is answered in free text, which the encoder {str(tiny_encoder)!r} cannot: "
        "expected a causal or sequence-to-sequence language model."
    )


def test_a_limit_that_leaves_nothing_is_said(mixed: Any, tmp_path: Path) -> None:
    config = ModelConfig(base_model=str(make_base(tmp_path / "base", "llama")), max_length=4)
    with pytest.raises(
        InputError, match=r"has no rows left in its .* split after cleaning \(.* too long removed"
    ):
        prepare_data(mixed.config(), str(tmp_path / "run"), config)


def test_a_model_that_is_not_there_is_said(suite: Any) -> None:
    with pytest.raises(InputError, match="The base model '/no/such' was not found"):
        answer_limit(ModelConfig(base_model="/no/such"), suite.read())
