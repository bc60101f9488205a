"""What models answer, against the probability of each label's name and each token read alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from tiny_language_models import CONVERSATIONS, make_base, write_prepared_data
from torch.nn import functional

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import (
    PreparedData,
    PreparedTask,
    Split,
    write_index,
    write_split,
)
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.labels import NO_ANSWER, last_answer
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.model_answers import held_out_answers, validation_answers
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.prompt_format import classification_question
from gradsift.components.shared.parameters.model import ModelConfig

LABELS = ["few", "very_many"]
TEXTS = ["two mice", "nine mice and one whale", "the number of mice is ten"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The sizes of `tiny_language_models` as a target, with a second text in some rows."""
    folder = write_prepared_data(tmp_path_factory.mktemp("data"))
    rows = [
        {"id": f"row-{row}", "text": text, "text_pair": "a pair" if row == 1 else None, "label": row % 2}
        for row, text in enumerate(TEXTS)
    ]
    for split in ("val", "test"):
        write_split(folder, "size", split, rows)  # type: ignore[arg-type]
    sizes: Any = {"train": 16, "val": 3, "test": 3}
    write_index(folder, "counting", "size", [PreparedTask(name="size", labels=LABELS, rows=sizes)])
    return PreparedData(folder)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_label_is_as_probable_as_its_name_is_to_be_written(
    data: PreparedData, name: str, tmp_path: Path
) -> None:
    config = ModelConfig(base_model=str(make_base(tmp_path / name, name)), max_length=64)
    model = from_base(config, data)
    assert isinstance(model, LanguageModel)
    found = held_out_answers(model, data, "float32")
    rows = data.split("size", "test")
    each = zip(rows["text"][:], rows["text_pair"][:], strict=True)
    losses = np.array([[_losses(model, text, pair, label) for label in (0, 1)] for text, pair in each])
    assert found.labels is not None
    assert found.labels == pytest.approx(log_softmax(-losses.sum(-1), axis=1), abs=1e-4)
    counts = (losses != 0).sum(-1)
    right = [0, 1, 0]
    means = (losses.sum(-1) / counts)[np.arange(3), right]
    assert found.label_losses is not None
    assert found.label_losses[np.arange(3), right] == pytest.approx(means, rel=1e-4)
    val = validation_answers(model, data, "float32")
    assert val.loss == pytest.approx(means, rel=1e-4)
    assert (found.written, found.token_accuracy, found.losses) == (None, None, None)


@torch.no_grad()
def _losses(model: LanguageModel, text: str, pair: str | None, label: int) -> list[float]:
    """Loss of each token of a label's name, padded with zeros to 12."""
    [tokens] = model.format.tokens([classification_question(text, pair, LABELS, label)])
    prompt, name = tokens or ([], [])
    if model.settings.encoder_decoder:
        start = [model.lm.config.decoder_start_token_id, *name[:-1]]
        read = {"input_ids": torch.tensor([prompt]), "decoder_input_ids": torch.tensor([start])}
    else:
        read = {"input_ids": torch.tensor([[*prompt, *name[:-1]]])}
    scores = model.lm(**read).logits[0, -len(name) :]
    losses = functional.cross_entropy(scores, torch.tensor(name), reduction="none").tolist()
    return [*losses, *[0.0] * (12 - len(name))]


def test_written_answers_are_read_token_by_token(tmp_path: Path) -> None:
    """A model that has learnt a little gives some of the tokens of an answer."""
    data = PreparedData(write_prepared_data(tmp_path / "data"))
    model = from_base(ModelConfig(base_model=str(make_base(tmp_path / "base", "llama")), max_length=64), data)
    assert isinstance(model, LanguageModel)
    batch = model.batch(model.encode(data.split("next", "train"), "next"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(7):
        optimizer.zero_grad()
        model.answers(batch).losses().mean().backward()
        optimizer.step()
    reported: list[int] = []
    found = held_out_answers(model, data, "float32", reported.append)
    examples = model.encode(data.split("next", "test"), "next")
    expected = [_read(model, example["input_ids"], example["label"]) for example in examples]
    assert found.losses == pytest.approx([loss for loss, _ in expected], rel=1e-4)
    assert found.token_accuracy == pytest.approx([share for _, share in expected])
    assert any(0 < share < 1 for _, share in expected)
    assert found.written is not None
    assert (len(found.written), sum(reported)) == (4, 4)


@torch.no_grad()
def _read(model: LanguageModel, prompt: list[int], label: list[int]) -> tuple[float, float]:
    """Loss and share of right tokens of one answer of a causal model."""
    scores = model.lm(input_ids=torch.tensor([[*prompt, *label[:-1]]])).logits[0, -len(label) :]
    right = torch.tensor(label)
    hits = (scores.argmax(1) == right).float()
    return float(functional.cross_entropy(scores, right)), float(hits.mean())


@pytest.fixture
def encoder(tiny_encoder: Path, prepared_data: StepOutput) -> EncoderClassifier:
    model = from_base(ModelConfig(base_model=str(tiny_encoder)), PreparedData(fetch(prepared_data)))
    assert isinstance(model, EncoderClassifier)
    return model


def test_an_encoders_losses_and_answers_are_those_of_its_log_probabilities(
    encoder: EncoderClassifier, prepared_data: StepOutput
) -> None:
    data = PreparedData(fetch(prepared_data))
    rows = data.split("sst2", "val")
    right = np.array(rows["label"][:])
    labels = encoder.log_probabilities(rows, "sst2").numpy()
    val = validation_answers(encoder, data, "float32")
    assert np.array_equal(val.loss, -labels[np.arange(len(right)), right])
    assert np.array_equal(val.right, labels.argmax(1) == right)
    test = held_out_answers(encoder, data, "float32")
    assert test.labels is not None
    assert np.allclose(np.exp(test.labels).sum(1), 1, atol=1e-5)
    assert np.array_equal(test.label_losses, -test.labels)  # type: ignore[arg-type]


def test_bf16_answers_are_close_and_float32(encoder: EncoderClassifier, prepared_data: StepOutput) -> None:
    data = PreparedData(fetch(prepared_data))
    exact = held_out_answers(encoder, data, "float32").labels
    fast = held_out_answers(encoder, data, "bf16").labels
    assert exact is not None
    assert fast is not None
    assert fast.dtype == np.float32
    assert 0 < np.abs(fast - exact).mean() < 0.1
    assert math.isclose(np.exp(fast).sum(), len(fast), rel_tol=1e-5)


@pytest.mark.parametrize("name", ["encoder", "llama"])
def test_test_labels_are_not_read(
    name: str, data: PreparedData, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_encoder if name == "encoder" else make_base(tmp_path / name, name)
    model = from_base(ModelConfig(base_model=str(base), max_length=64), data)
    with_labels = held_out_answers(model, data, "float32").labels
    rows = data.split("size", "test").remove_columns("label")
    monkeypatch.setattr(data, "split", lambda task, split: rows)
    assert np.array_equal(held_out_answers(model, data, "float32").labels, with_labels)  # type: ignore[arg-type]


def test_the_last_answer_of_a_conversation_is_written_after_all_before_it(tmp_path: Path) -> None:
    """And no more than the longest last answer, while losses are of all answers that are learned."""
    columns = {**CONVERSATIONS, "references": [[text] for text in CONVERSATIONS["completion"]]}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    splits: tuple[Split, ...] = ("train", "val", "test")
    for split in splits:
        write_split(tmp_path, "chat", split, rows, "generation")
    task = PreparedTask(name="chat", kind="generation", labels=[], rows=dict.fromkeys(splits, len(rows)))
    write_index(tmp_path, "suite", "chat", [task])
    data = PreparedData(tmp_path)
    base = make_base(tmp_path / "base", "llama", chat=True)
    model = from_base(ModelConfig(base_model=str(base), max_length=128), data)
    assert isinstance(model, LanguageModel)
    found = held_out_answers(model, data, "float32")
    examples = model.encode(data.split("chat", "test"), "chat")
    longest = max(len(last_answer(example["label"])) for example in examples)
    assert longest < max(len(example["label"]) for example in examples)
    assert found.losses is not None
    assert found.written is not None
    for row, example in enumerate(examples):
        prompt = model.tokenizer.decode(example["input_ids"])
        assert all(message["content"] in prompt for message in CONVERSATIONS["earlier"][row])
        written = _greedy(model, example["input_ids"], longest)
        assert found.written[row] == model.tokenizer.decode(written, skip_special_tokens=True).strip()
        whole = example["input_ids"] + last_answer(example["label"])
        labels = torch.tensor([NO_ANSWER] * (len(whole) - len(example["label"])) + example["label"])
        scores = model.lm(input_ids=torch.tensor([whole])).logits[0]
        assert found.losses[row] == pytest.approx(
            float(functional.cross_entropy(scores[:-1], labels[1:])), rel=1e-4
        )


@torch.no_grad()
def _greedy(model: LanguageModel, prompt: list[int], most: int) -> list[int]:
    ends = {model.tokenizer.eos_token_id, model.tokenizer.convert_tokens_to_ids("<|turn|>")}
    written: list[int] = []
    while len(written) < most and not ends & set(written):
        written.append(int(model.lm(input_ids=torch.tensor([prompt + written])).logits[0, -1].argmax()))
    return written
