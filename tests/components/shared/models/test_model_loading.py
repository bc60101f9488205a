"""Language models of every family: saving, opening again, adapters, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_language_models import LORA, examples_of, model_of

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.model_kind import kind_of
from gradsift.components.shared.models.model_loading import from_base, open_model
from gradsift.components.shared.parameters.model import ModelConfig

SEQ2SEQ = ("bart", "t5", "flan_t5")


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
