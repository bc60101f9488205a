"""Small models for development: they learn, can be made again, and load like any base model."""

import math
from pathlib import Path

import pytest
import torch
from tiny_language_models import write_suite
from transformers import AutoTokenizer

from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.model_kind import kind_of
from gradsift.components.shared.models.pretrained_language_model import load_language_model
from tests.studies.small_models import Kind, bits_per_byte, train_small_model


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("counting"))


@pytest.mark.parametrize(("kind", "found"), [("gpt", "causal"), ("t5", "seq2seq")])
def test_a_small_model_learns_the_text_and_loads_as_a_base_model(
    kind: Kind, found: str, suite: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    before, after = train_small_model(kind, suite, folder, steps=50, width=32)
    assert after < 0.7 * before
    base = find_base_model(str(folder))
    assert kind_of(base.folder, base.name) == found
    _, tokenizer = load_language_model(base.folder, base.name, found == "seq2seq")
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == "</s>"
    assert tokenizer.decode(tokenizer("Größe: 3 + 4")["input_ids"]) == "Größe: 3 + 4"


def test_the_same_steps_write_the_same_weights(suite: Path, tmp_path: Path) -> None:
    for name in ("once", "again"):
        train_small_model("gpt", suite, tmp_path / name, steps=2, width=16)
    once, again = (tmp_path / name / "model.safetensors" for name in ("once", "again"))
    assert once.read_bytes() == again.read_bytes()


def test_bits_per_byte_are_those_of_a_count_token_by_token(suite: Path, tmp_path: Path) -> None:
    train_small_model("gpt", suite, tmp_path, steps=2, width=16)
    lm, tokenizer = load_language_model(tmp_path, "small", encoder_decoder=False)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["one two three", "what comes next eight ?"]
    examples = [(ids, ids) for ids in (torch.tensor(tokenizer(text)["input_ids"]) for text in texts)]
    bits, size = 0.0, 0
    for ids, _ in examples:
        for place in range(1, len(ids)):
            scores = lm(input_ids=ids[None, :place]).logits[0, -1]
            bits -= scores.log_softmax(0)[ids[place]].item() / math.log(2)
            size += len(tokenizer.decode(ids[place : place + 1]).encode())
    assert bits_per_byte(lm, examples, tokenizer) == pytest.approx(bits / size, rel=1e-4)
