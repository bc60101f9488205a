"""Language models of every family: the loss, padding, what is trained, and generating."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language_models import (
    CONFIGS,
    CONVERSATIONS,
    LORA,
    THINKING_TEMPLATE,
    examples_of,
    make_base,
    model_of,
)
from torch import Tensor

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models import task_model
from gradsift.components.shared.models.labels import last_answer
from gradsift.components.shared.models.language_model import LanguageModel, positions_of
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.task_model import Example, TaskModel, token_count


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


def test_rows_are_read_a_few_tokens_at_a_time(
    bases: dict[str, Path], data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(bases["llama_tied"], data)
    examples = examples_of(model, data)
    whole = {
        row: loss
        for rows, answers in model.read(examples, "float32")
        for row, loss in zip(rows, answers.losses(), strict=True)
    }
    monkeypatch.setattr(task_model, "READ_TOKENS", 2 * max(map(token_count, examples)))
    parts = list(model.read(examples, "float32"))
    assert max(len(rows) for rows, _ in parts) == 2
    for rows, answers in parts:
        expected = torch.stack([whole.pop(row) for row in rows])
        torch.testing.assert_close(answers.losses(), expected, rtol=1e-5, atol=1e-5)
    assert not whole


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
