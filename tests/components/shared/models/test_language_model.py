"""Language models of every family: the loss, padding, what is trained, saving, generating, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_language_models import CONFIGS, CONVERSATIONS, THINKING_TEMPLATE, make_base, write_prepared_data
from torch import Tensor

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.labels import last_answer
from gradsift.components.shared.models.language_model import LanguageModel, positions_of
from gradsift.components.shared.models.model_kind import kind_of
from gradsift.components.shared.models.model_loading import from_base, open_model
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.task_model import Example, TaskModel
from gradsift.components.shared.parameters.model import ModelConfig

SEQ2SEQ = ("bart", "t5", "flan_t5")
LORA = {"lora_rank": 2, "lora_alpha": 8}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: make_base(folder / name, name) for name in CONFIGS}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return PreparedData(write_prepared_data(tmp_path_factory.mktemp("counting")))


def model_of(base: Path, data: PreparedData, **settings: Any) -> LanguageModel:
    model = from_base(ModelConfig(base_model=str(base), **{"max_length": 64, **settings}), data)
    assert isinstance(model, LanguageModel)
    return model


def examples_of(model: TaskModel, data: PreparedData, count: int = 3) -> list[Example]:
    """Rows of a generation task, some with a rationale, and of a classification task: of many lengths."""
    return [row for task in ("next", "size") for row in model.encode(data.split(task, "train"), task)[:count]]


def loss_by_transformers(model: LanguageModel, example: Example) -> Tensor:
    """The loss of one row without padding, from the library's own loss."""
    prompt, answer = example["input_ids"], example["label"]
    if model.settings.encoder_decoder:
        loss: Tensor = model.lm(input_ids=torch.tensor([prompt]), labels=torch.tensor([answer])).loss
    else:
        ids = prompt + last_answer(answer)
        labels = [-100] * (len(ids) - len(answer)) + answer
        loss = model.lm(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    return loss


def gradient(model: TaskModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("lora", [{}, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_those_of_transformers_whatever_the_padding(
    bases: dict[str, Path], data: PreparedData, name: str, lora: dict[str, int]
) -> None:
    model = model_of(bases[name], data, **lora)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and lora:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    examples = examples_of(model, data) + model.encode(CONVERSATIONS, "next")
    assert len({len(example["label"]) for example in examples}) > 2
    alone = torch.stack([loss_by_transformers(model, example) for example in examples])
    answers = model.answers(model.batch(examples))
    torch.testing.assert_close(answers.losses(), alone, rtol=1e-5, atol=1e-5)
    assert answers.logits.shape[1] == max(len(example["label"]) for example in examples)
    together = gradient(model, model(**model.batch(examples))["loss"])
    expected = gradient(model, alone.mean())
    assert together.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(together[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2", "t5"])
def test_hidden_states_are_the_mean_over_the_inputs_whatever_the_padding(
    bases: dict[str, Path], data: PreparedData, name: str
) -> None:
    model = model_of(bases[name], data)
    examples = examples_of(model, data)
    together = model.answers(model.batch(examples), with_hidden=True).hidden
    assert together is not None
    assert together.shape == (len(examples), model.hidden_size)
    for row, example in enumerate(examples):
        ids = torch.tensor([example["input_ids"]])
        if name == "t5":
            states = model.lm.get_encoder()(ids).last_hidden_state
        else:
            ids = torch.tensor([example["input_ids"] + example["label"][:-1]])
            states = model.lm.base_model(ids).last_hidden_state
        torch.testing.assert_close(together[row], states[0].mean(0), rtol=1e-4, atol=1e-5)


def test_right_padding_gives_the_same_losses(bases: dict[str, Path], data: PreparedData) -> None:
    for name in ("llama", "gpt2", "gemma2"):
        model = model_of(bases[name], data)
        examples = examples_of(model, data)
        whole = [example["input_ids"] + example["label"] for example in examples]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in whole], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(row)) for row in whole], batch_first=True
        ).long()
        logits = model.lm(input_ids=ids, attention_mask=mask, position_ids=positions_of(mask)).logits
        expected = [
            torch.nn.functional.cross_entropy(
                logits[row, len(example["input_ids"]) - 1 : len(whole[row]) - 1],
                torch.tensor(example["label"]),
            )
            for row, example in enumerate(examples)
        ]
        found = model.answers(model.batch(examples)).losses()
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mistral", "gpt2", "bloom", "t5"])
def test_bfloat16_gives_finite_gradients_and_about_the_same_losses(
    bases: dict[str, Path], data: PreparedData, name: str
) -> None:
    model = model_of(bases[name], data)
    batch = model.batch(examples_of(model, data))
    with autocast(model.device, "bf16"):
        answers = model.answers(batch)
    assert answers.logits.dtype == torch.float32
    torch.testing.assert_close(answers.losses(), model.answers(batch).losses(), rtol=0.05, atol=0.05)
    assert all(bool(each.isfinite().all()) for each in gradient(model, answers.losses().mean()).values())


def test_positions_count_a_rows_own_tokens() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert positions_of(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]]


@pytest.mark.parametrize("name", CONFIGS)
def test_without_embeddings_neither_tables_nor_the_output_layer_are_trained(
    bases: dict[str, Path], data: PreparedData, name: str
) -> None:
    model = model_of(bases[name], data)
    model.freeze_embeddings()
    frozen = {key for key, each in model.named_parameters() if not each.requires_grad}
    tables = (
        "embed_tokens",
        "embed_positions",
        "word_embeddings.",
        "wte",
        "wpe",
        "lm_head",
        "shared",
        "relative_attention_bias",
    )
    assert frozen == {key for key, _ in model.named_parameters() if any(table in key for table in tables)}
    assert 0 < len(frozen) < len(list(model.named_parameters())) // 2


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "flan_t5"])
def test_adapters_alone_are_trained_and_change_nothing_at_first(
    bases: dict[str, Path], data: PreparedData, name: str
) -> None:
    plain, adapted = model_of(bases[name], data), model_of(bases[name], data, **LORA)
    adapted.freeze_embeddings()
    trained = {key for key, each in adapted.named_parameters() if each.requires_grad}
    assert trained == {key for key, _ in adapted.named_parameters() if "lora_" in key}
    assert not any("lm_head" in key for key in trained)
    batch = plain.batch(examples_of(plain, data))
    torch.testing.assert_close(adapted.answers(batch).logits, plain.answers(batch).logits)
    targets = {"qwen3": "v_proj, q_proj", "gpt2": " c_attn", "flan_t5": "SelfAttention.v"}
    chosen = model_of(bases[name], data, **LORA, lora_targets=targets[name])
    few = {key for key, each in chosen.named_parameters() if each.requires_grad}
    assert 0 < len(few) < len(trained)


@pytest.mark.parametrize("name", ["gpt2", "llama_tied", "flan_t5"])
def test_a_saved_model_is_one_safetensors_file_that_transformers_opens(
    bases: dict[str, Path], data: PreparedData, name: str, tmp_path: Path
) -> None:
    model = model_of(bases[name], data)
    state = {key: value + 0.01 for key, value in model.state_dict().items()}
    model.save(tmp_path / "own")
    model.save(tmp_path / "given", state)
    batch = model.batch(examples_of(model, data))
    opened = open_model(tmp_path / "own")
    torch.testing.assert_close(opened.answers(batch).logits, model.answers(batch).logits)
    assert [path.name for path in (tmp_path / "own").glob("*.safetensors")] == ["model.safetensors"]
    expected = load_file(tmp_path / "own" / "model.safetensors")
    for key, value in load_file(tmp_path / "given" / "model.safetensors").items():
        torch.testing.assert_close(value, expected[key] + 0.01)
    form = type(model.lm)
    again = form.from_pretrained(tmp_path / "own")
    assert set(again.state_dict()) == set(model.lm.state_dict())


def test_a_saved_adapter_names_its_base_and_opens_on_no_other(
    bases: dict[str, Path], data: PreparedData, tmp_path: Path
) -> None:
    base = shutil.copytree(bases["llama"], tmp_path / "base")
    model = model_of(base, data, **LORA)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    model.save(tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "language_model.json"} <= names
    assert not any(name == "model.safetensors" or name.endswith(".md") for name in names)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    batch = model.batch(examples_of(model, data))
    opened = open_model(tmp_path / "adapter")
    torch.testing.assert_close(opened.answers(batch).logits, model.answers(batch).logits)
    assert [key for key, each in opened.named_parameters() if each.requires_grad] == [
        key for key, each in model.named_parameters() if each.requires_grad
    ]
    weights = load_file(base / "model.safetensors")
    save_file(
        {key: value + 1 for key, value in weights.items()}, base / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(
        InputError, match=r"adapter in .* was trained on the weights .* expected these, found"
    ):
        open_model(tmp_path / "adapter")


def test_frozen_weights_alone_may_be_missing_where_weights_are_loaded(
    bases: dict[str, Path], data: PreparedData
) -> None:
    model = model_of(bases["llama_tied"], data, **LORA)
    state = {name: each + 1 for name, each in model.named_parameters() if each.requires_grad}
    frozen = {name: each.clone() for name, each in model.named_parameters() if not each.requires_grad}
    model.load_state_dict(state)
    for name, each in model.named_parameters():
        assert torch.equal(each, state[name] if each.requires_grad else frozen[name])
    missing = state.popitem()[0]
    with pytest.raises(RuntimeError, match=f"Missing key.*{missing}"):
        model.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*wing"):
        model.load_state_dict({**model.state_dict(), "wing": torch.ones(1)})


def test_a_revision_of_the_hub_is_named(bases: dict[str, Path], data: PreparedData, tmp_path: Path) -> None:
    cached = tmp_path / "models--owner--name" / "snapshots" / "0123abcd"
    shutil.copytree(bases["gpt2"], cached)
    assert find_base_model(str(cached)).revision == "0123abcd"
    assert find_base_model(str(bases["gpt2"])).revision is None
    model_of(cached, data, **LORA).save(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["revision"] == "0123abcd"


@pytest.mark.parametrize("padding", [True, False], ids=["padding token", "no padding token"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_greedy_decoding_does_not_depend_on_the_batch(
    data: PreparedData, name: str, padding: bool, tmp_path: Path
) -> None:
    model = model_of(make_base(tmp_path, name, padding=padding), data)
    examples = examples_of(model, data)
    alone = [model.generate([example], 6)[0] for example in examples]
    assert model.generate(examples, 6) == alone
    losses = model.answers(model.batch(examples)).losses()
    model.lm.config.pad_token_id = model.padding
    expected = torch.stack([loss_by_transformers(model, example) for example in examples])
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)


def test_greedy_decoding_writes_what_has_the_highest_score(
    bases: dict[str, Path], data: PreparedData
) -> None:
    for name in ("llama", "t5"):
        model = model_of(bases[name], data)
        example = examples_of(model, data)[0]
        written: list[int] = []
        for _ in range(4):
            answer = {**example, "label": [*written, 0]}
            written.append(int(model.answers(model.batch([answer])).logits[0, -1].argmax()))
        end = model.tokenizer.eos_token_id
        assert end not in written
        assert model.generate([example], 4) == [model.tokenizer.decode(written, skip_special_tokens=True)]


def test_a_chat_model_ends_where_its_template_does(data: PreparedData, tmp_path: Path) -> None:
    model = model_of(make_base(tmp_path, "llama", chat=True), data)
    assert model.settings.chat
    [example] = model.encode(
        {"id": ["a"], "prompt": ["hi"], "completion": ["ho"], "rationale": [None]}, "next"
    )
    assert model.tokenizer.decode(example["label"]) == "ho<|turn|>"


@pytest.mark.parametrize("template", [THINKING_TEMPLATE, THINKING_TEMPLATE.replace("<|turn|>", " ###")])
def test_what_the_template_adds_is_written_and_is_no_part_of_the_answer(
    data: PreparedData, tmp_path: Path, template: str
) -> None:
    base = make_base(tmp_path / "base", "llama", chat=True)
    (base / "chat_template.jinja").write_text(template)
    model = model_of(base, data)
    asked = {"id": ["a"], "prompt": ["hi"], "completion": ["ho"], "rationale": [None]}
    [example] = model.encode(asked, "next")
    assert model.tokenizer.decode(example["label"]).startswith("<think>\n\n</think>\n\nho")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        model(**model.batch([example]))["loss"].backward()
        optimizer.step()
    assert model.answers(model.batch([example])).right().all()
    assert model.generate([example], 60) == ["ho"]
    model.save(tmp_path / "saved")
    opened = open_model(tmp_path / "saved")
    assert isinstance(opened, LanguageModel)
    assert opened.write(["hi"]) == ["ho"]


def test_kinds_are_told_apart(bases: dict[str, Path], tiny_encoder: Path) -> None:
    for name, folder in bases.items():
        assert kind_of(folder, name) == ("seq2seq" if name in SEQ2SEQ else "causal")
    assert kind_of(tiny_encoder, "bert") == "encoder"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "vit"}, "is of type 'vit': expected an encoder, a causal language model or a seq"),
        ({"model_type": "nothing"}, r"The config.json of the base model .* cannot be used: .*nothing"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    bases: dict[str, Path], data: PreparedData, change: dict[str, str], message: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(bases["gpt2"], tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=message):
        model_of(folder, data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 129}, "max_length is 129: expected at most the 128 tokens that the base model"),
        ({"prompt_form": "chat"}, "prompt_form is 'chat': expected 'plain' or 'auto'"),
        ({**LORA, "lora_targets": "c_attn,wing"}, "lora_targets names wing, which .* some of .*c_attn, c_fc"),
        ({**LORA, "lora_targets": "wte.0"}, "lora_targets names wte.0"),
    ],
)
def test_what_the_base_model_cannot_do_is_said(
    bases: dict[str, Path], data: PreparedData, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model_of(bases["gpt2"], data, **{"lora_targets": "c_attn", **settings})


def test_an_answer_that_does_not_fit_is_said(bases: dict[str, Path], data: PreparedData) -> None:
    model = model_of(bases["gpt2"], data, max_length=8)
    rows = {"id": ["long"], "prompt": ["a"], "completion": ["one " * 9], "rationale": [None]}
    with pytest.raises(
        InputError, match=r"Row 'long' of task 'next' has a completion that does not fit into 8"
    ):
        model.encode(rows, "next")


def test_an_encoder_decoder_needs_a_first_token(
    bases: dict[str, Path], data: PreparedData, tmp_path: Path
) -> None:
    folder = shutil.copytree(bases["t5"], tmp_path / "t5")
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        settings.pop("decoder_start_token_id", None)
        (folder / name).write_text(json.dumps(settings))
    with pytest.raises(InputError, match="names no decoder_start_token_id in its"):
        model_of(folder, data)


@pytest.mark.parametrize("settings", [{}, LORA], ids=["weights", "adapter"])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_generation_settings_of_the_base_do_not_change_greedy_decoding(
    bases: dict[str, Path], data: PreparedData, name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    plain = model_of(bases[name], data, **settings)
    examples = examples_of(plain, data)
    written = plain.generate(examples, 8)
    folder = shutil.copytree(bases[name], tmp_path / name)
    common = [token for token in range(260) if plain.tokenizer.decode([token]) in "".join(written)]
    own = {
        "do_sample": True,
        "temperature": 5.0,
        "repetition_penalty": 9.0,
        "no_repeat_ngram_size": 1,
        "num_beams": 3,
        "num_return_sequences": 2,
        "return_dict_in_generate": True,
        "min_length": 60,
        "min_new_tokens": 7,
        "suppress_tokens": common,
        "begin_suppress_tokens": common,
        "bad_words_ids": [[token] for token in common],
        "forced_bos_token_id": 9,
        "forced_eos_token_id": 9,
        "exponential_decay_length_penalty": [1, 9.0],
    }
    for file in ("generation_config.json", "config.json"):
        document = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**document, **own}))
    model = model_of(folder, data, **settings)
    assert model.generate(examples, 8) == written
    model.save(tmp_path / "saved")
    assert open_model(tmp_path / "saved").generate(examples, 8) == written


def test_damaged_weights_are_said(bases: dict[str, Path], data: PreparedData, tmp_path: Path) -> None:
    folder = shutil.copytree(bases["llama"], tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"has no weights for model.norm.weight \(1 missing\)"):
        model_of(folder, data)
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be loaded as a language model"):
        model_of(folder, data)


def test_an_encoder_takes_neither_free_text_nor_adapters(
    data: PreparedData, tiny_encoder: Path, prepared_data: Any
) -> None:
    config = ModelConfig(base_model=str(tiny_encoder))
    with pytest.raises(
        InputError, match=r"Task 'next' of suite 'counting' is answered in free text, which the"
    ):
        from_base(config, data)
    labelled = PreparedData(Path(prepared_data.uri))
    assert isinstance(from_base(config, labelled), EncoderClassifier)
    with pytest.raises(InputError, match="lora_rank is 2: expected 0, as the base model"):
        from_base(config.model_copy(update={"lora_rank": 2}), labelled)
