"""A scope's parameters are trained and no others, in models of every kind; what cannot be trained is refused."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tiny_language_models import make_base, write_prepared_data
from transformers import AutoTokenizer, BertConfig, BertModel

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.models.tune_scope import set_trained
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Scope

LAYER = re.compile(r"\.(layer|h|layers|encoder\.block|decoder\.block)\.(\d+)\.")
THIRDS = {"early": {0}, "middle": {1, 2}, "late": {3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """Bases with four layers (of T5, two in the encoder and two in the decoder), and prepared data."""
    folder = tmp_path_factory.mktemp("scopes")
    write_prepared_data(folder / "data")
    for name in ("gpt2", "llama"):
        make_base(folder / name, name, layers=4)
    make_base(folder / "t5", "t5")
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(folder / "bert")
    config = BertConfig.from_pretrained(tiny_encoder, num_hidden_layers=4)
    BertModel(config).save_pretrained(folder / "bert")
    return folder


def model_of(folder: Path, name: str, **settings: Any) -> TaskModel:
    if name == "bert":
        head = Head.for_tasks(settings.get("head", "linear"), 15.0, 32, "mood", {"mood": ["good", "bad"]})
        model = EncoderClassifier.from_base(find_base_model(str(folder / name)), head)
        with torch.no_grad():
            model.classifier.weight.fill_(0.1)[0] = -0.1  # zeros would give the layers no gradient
        return model
    config = ModelConfig(base_model=str(folder / name), max_length=64, **settings)
    return from_base(config, PreparedData(folder / "data"))


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a parameter is in, the decoder's after the encoder's."""
    found = LAYER.search(name)
    return None if found is None else int(found[2]) + (2 if "decoder" in found[1] else 0)


def changed(model: TaskModel, scope: Scope, train_embeddings: bool) -> set[str]:
    """Return the parameters that one step of training in a scope changes."""
    counts = set_trained(model, scope, train_embeddings)
    weights = [each for each in model.parameters() if each.requires_grad]
    assert counts[0] == sum(each.numel() for each in weights) <= counts[1]
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    for _ in range(2):  # at the start, one of an adapter's two matrices has no gradient
        model(**model.batch(model.examples_of(["a few words", "one two three four"])))["loss"].backward()
        torch.optim.AdamW(weights, lr=1e-2).step()
    return {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}


@pytest.mark.parametrize("scope", get_args(Scope))
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5", "gpt2 lora", "t5 lora"])
def test_a_step_changes_the_parameters_of_the_scope_and_no_others(
    folder: Path, name: str, scope: Scope
) -> None:
    base, *lora = name.split()
    if lora and scope in ("embeddings", "head"):
        return
    model = model_of(folder, base, **({"lora_rank": 2} if lora else {}))
    names = [each for each, weight in model.named_parameters() if not lora or weight.requires_grad]
    tables = {each for each in names if "embed" in each or "wte" in each or "wpe" in each or "shared" in each}
    tables |= {each for each in names if "relative_attention_bias" in each}
    shared = {each for each in names if base in ("gpt2", "t5") and ("wte" in each or "shared" in each)}
    last = ("classifier", "ln_f", "model.norm", "lm_head", "decoder.final_layer_norm")
    expected = {
        "all": set(names),
        "embeddings": tables,
        "head": {each for each in names if any(part in each for part in last)} | shared,
        **{
            third: {each for each in names if layer_of(each) in numbers and each not in tables}
            for third, numbers in THIRDS.items()
        },
    }[scope]
    if scope == "middle" and base == "t5" and not lora:
        expected |= {each for each in names if "encoder.final_layer_norm" in each}
    assert expected
    assert changed(model, scope, train_embeddings=True) == expected


def test_embeddings_stay_frozen_in_a_scope_as_in_the_whole(folder: Path) -> None:
    """T5's first layers hold a table of relative positions."""
    model = model_of(folder, "t5")
    of_layer = {each for each, _ in model.named_parameters() if layer_of(each) == 0}
    found = changed(model, "early", train_embeddings=False)
    assert found == {each for each in of_layer if "relative_attention_bias" not in each}


@pytest.mark.parametrize(
    ("name", "settings", "scope", "expected"),
    [
        (
            "bert",
            {"head": "label_embedding"},
            "head",
            "some of all, .*, as the head 'label_embedding' is fixed",
        ),
        (
            "bert",
            {},
            "embeddings",
            "model_train_embeddings true, or another scope, as embedding tables are frozen",
        ),
        ("gpt2", {}, "head", "model_train_embeddings true, or another scope, as the output layer is"),
        ("gpt2", {"lora_rank": 2}, "head", "all, early, middle or late, as adapters are put on layers"),
    ],
)
def test_a_scope_of_which_nothing_is_trained_is_refused(
    folder: Path, name: str, settings: dict[str, Any], scope: Scope, expected: str
) -> None:
    with pytest.raises(InputError, match=f"^Parameter fine_tune_scopes holds '{scope}': expected {expected}"):
        set_trained(model_of(folder, name, **settings), scope, train_embeddings=False)


def test_thirds_of_fewer_than_three_layers_are_refused(tiny_encoder: Path) -> None:
    head = Head.for_tasks("linear", 15.0, 32, "mood", {"mood": ["good", "bad"]})
    model = EncoderClassifier.from_base(find_base_model(str(tiny_encoder)), head)
    with pytest.raises(
        InputError, match="holds 'late': expected 'all', as the base model has 2 layers of its"
    ):
        set_trained(model, "late", train_embeddings=False)
