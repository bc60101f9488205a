"""Which rows a model cannot answer is known before anything is trained, without any model library."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_language_models import CHAT_TEMPLATE, THINKING_TEMPLATE, make_base
from transformers import PreTrainedTokenizerBase

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
        f"{mixed.read().where}: row '7' of task 'saying': The chat template leaves out or changes a message of "
        "the conversation: expected prompt_form 'plain' for this base model."
    )


def test_another_limit_is_another_output_whether_it_is_decided_or_given(
    suite: Any, tiny_encoder: Path, tmp_path: Path
) -> None:
    base = str(make_base(tmp_path / "base", "llama"))
    root = str(tmp_path / "run")

    def key(model: ModelConfig | None) -> str:
        return prepare_data(suite.config(), root, model).uri

    for name in (base, str(tiny_encoder)):
        auto = ModelConfig(base_model=name)
        number = prepare_data(suite.config(), root, auto).metadata["max_length"]
        assert number % 8 == 0
        same, other = (ModelConfig(base_model=name, max_length=number + more) for more in (0, 8))
        assert key(auto) == key(same)
        assert len({key(None), key(same), key(other)}) == 3
    long, short = (ModelConfig(base_model=base, max_length=length) for length in (64, 48))
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
    mixed.write_rows("saying.jsonl", [{"id": "1", "prompt": "say", "completion": "one " * 30}])
    config = ModelConfig(base_model=str(make_base(tmp_path / "base", "llama")), max_length=24)
    with pytest.raises(
        InputError, match=r"has no rows left in its .* split after cleaning \(.* too long removed"
    ):
        prepare_data(mixed.config(), str(tmp_path / "run"), config)


def lengths_of(examples: list[Any], name: str) -> list[int]:
    if name == "llama":
        return [len(example["input_ids"]) + len(example["label"]) for example in examples]
    return [len(example["input_ids"]) for example in examples]


@pytest.mark.parametrize("name", ["llama", "t5", "encoder"])
def test_the_number_of_tokens_is_decided_from_the_rows_and_reported(
    suite: Any, tiny_encoder: Path, tmp_path: Path, name: str
) -> None:
    """Two rows of the two hundred train rows are longer than the rest, and so are the test rows."""
    rows = [
        {"id": f"{row}", "text": f"row {row:03} " + "one two " * 9, "label": row % 2} for row in range(200)
    ]
    for row in range(0, 200, 3):
        rows[row]["text_pair"] = "one two three " * 9
    for row in (7, 8):
        rows[row]["text"] += " one two three four five" * 10
    suite.write_rows("films.train.jsonl", rows)
    suite.write_rows("films.test.jsonl", [{"id": "t", "text": "one two three " * 40, "label": 0}])
    base = tiny_encoder if name == "encoder" else make_base(tmp_path / "base", name)
    config = ModelConfig(base_model=str(base))
    output = prepare_data(suite.config(), str(tmp_path / "run"), config)
    data = PreparedData(fetch(output))
    room = 64 if name == "encoder" else 120
    uncut, cut = (
        from_base(settings, data).encode(data.split("films", "train"), "films")
        for settings in (config.resolved(room), config)
    )
    longest = sorted(lengths_of(uncut, name))[-3]
    assert data.max_length == output.metadata["max_length"] == 8 * -(-longest // 8) < room
    assert max(lengths_of(cut, name)) <= data.max_length
    table = (data.folder / "statistics.md").read_text()
    assert f"At most {data.max_length} tokens of a row are read (`model_max_length`): 99.1% of" in table


def test_a_number_that_is_decided_has_room_for_every_label(suite: Any, tmp_path: Path) -> None:
    long = "a label of " + "very " * 4 + "many words"
    for task in suite.manifest["tasks"][:2]:
        task["labels"] = {"0": "short", "1": "brief", "2": long}
    base = str(make_base(tmp_path / "base", "llama"))
    root, config = str(tmp_path / "run"), suite.config(auxiliary_tasks=["books"])
    number = prepare_data(config, root, ModelConfig(base_model=base)).metadata["max_length"]
    with pytest.raises(InputError) as caught:
        prepare_data(config, root, ModelConfig(base_model=base, max_length=number - 8))
    assert str(caught.value).startswith(
        f"{suite.read().where}: task 'books', field 'labels': {long!r} needs "
    )
    assert f"expected at most the {number - 8} of model_max_length, or shorter labels." in str(caught.value)


@pytest.mark.parametrize("length", [0, 64])
def test_every_row_is_rendered_once(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """None is where the output is found finished and the number of tokens was given."""
    rendered: Counter[str] = Counter()
    render = PreTrainedTokenizerBase.apply_chat_template

    def counted(tokenizer: Any, messages: Any, **options: Any) -> Any:
        rendered[json.dumps(messages)] += messages[-1]["role"] == "assistant" and "text" in str(messages)
        return render(tokenizer, messages, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "apply_chat_template", counted)
    base = make_base(tmp_path / "base", "llama", chat=True)
    config, root = ModelConfig(base_model=str(base), max_length=length), str(tmp_path / "run")
    prepare_data(suite.config(), root, config)
    assert {count for count in rendered.values() if count} == {1}
    assert rendered.total() == 20  # 6, 2 and 2 rows of films, 4 and 2 of books, 4 of their copy
    rendered.clear()
    assert prepare_data(suite.config(), root, config).reused
    assert rendered.total() == (0 if length else 18)


def test_conversations_are_prepared_with_the_answers_to_learn(suite: Any, tmp_path: Path) -> None:
    said = [{"role": role, "content": f"{role} text"} for role in ("user", "assistant") * 2]
    suite.write_rows("chat.jsonl", [{"id": "1", "messages": said}, {"id": "2", "messages": said[:2]}])
    suite.manifest["tasks"].append({"name": "chat", "splits": {"train": {"file": "chat.jsonl"}}})
    base = make_base(tmp_path / "base", "llama", chat=True)
    config, root = ModelConfig(base_model=str(base), max_length=100), str(tmp_path / "run")
    outputs = [prepare_data(suite.config(answer_turns=turns), root, config) for turns in ("all", "last")]
    assert outputs[0].uri != outputs[1].uri
    for output, learned in zip(outputs, (3, 2), strict=True):
        data = PreparedData(fetch(output))
        rows = data.split("chat", "train")
        assert rows["earlier"][:] == [said[:2], []]
        assert rows["all_turns"][:] == [output is outputs[0], False]
        model = from_base(config, data)
        labels = [example["label"] for example in model.encode(rows, "chat")]
        ends = [label.count(model.tokenizer.convert_tokens_to_ids("<|turn|>")) for label in labels]
        assert sum(ends) == learned
    plain = [suite.config(auxiliary_tasks=["books"], answer_turns=turns) for turns in ("all", "last")]
    assert len({prepare_data(each, root, config).uri for each in plain}) == 1


def test_a_conversation_that_the_template_does_not_take_is_named(suite: Any, tmp_path: Path) -> None:
    said = [{"role": role, "content": "text"} for role in ("user", "user", "assistant")]
    suite.write_rows("chat.jsonl", [{"id": "1", "messages": said}])
    suite.manifest["tasks"].append({"name": "chat", "splits": {"train": {"file": "chat.jsonl"}}})
    base = make_base(tmp_path / "base", "llama", chat=True)
    expected = "{% if m['role'] != ['user', 'assistant'][loop.index0 % 2] %}"
    refused = expected + "{{ raise_exception('roles must alternate') }}{% endif %}"
    (base / "chat_template.jinja").write_text(
        CHAT_TEMPLATE.replace("in messages %}", "in messages %}" + refused)
    )
    with pytest.raises(InputError) as caught:
        prepare_data(suite.config(), str(tmp_path / "run"), ModelConfig(base_model=str(base)))
    assert str(caught.value) == (
        f"{suite.read().where}: row '1' of task 'chat': The chat template of the base model cannot be used: "
        "TemplateError, roles must alternate."
    )


def test_a_model_that_is_not_there_is_said(suite: Any) -> None:
    with pytest.raises(InputError, match="The base model '/no/such' was not found"):
        answer_limit(ModelConfig(base_model="/no/such"), suite.read())
