"""A base model's files are opened in one place, which names the file and the fault whatever the libraries raise."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_language_models import make_base
from transformers import AutoModel

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.library_errors import library_errors
from gradsift.components.shared.models.model_files import open_config, open_tokenizer
from gradsift.components.shared.models.model_weights import load_weights


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder to spoil."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "model"))


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_sound_files_are_opened(folder: Path) -> None:
    assert open_config(folder, "m").num_hidden_layers == 2
    assert open_tokenizer(folder, "m", pads=True).pad_token == "[PAD]"
    assert load_weights(AutoModel, folder, "m", "an encoder", "pooler.").config.hidden_size == 32


@pytest.mark.parametrize("content", ["null", "3", "[]", "{", '{"model_type": "bert", "model_type": "gpt2"}'])
def test_a_configuration_that_is_no_json_object_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(
        InputError, match=r"^The config\.json of the base model 'm' (holds|is not valid JSON).*object\.$"
    ):
        open_config(folder, "m")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", [1]),
        ("model_type", "t5"),
        ("hidden_size", 0),
        ("hidden_size", None),
        ("num_attention_heads", 0),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", 10**9),
        ("hidden_act", [1]),
        ("max_position_embeddings", None),
        ("pad_token_id", [0]),
        ("num_local_experts", "four"),
        ("num_labels", 10**9),
        ("decoder", 3),
        ("text_config", {"hidden_size": 8}),
        ("dtype", "int8"),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("architectures", 5),
        ("layer_norm_eps", "x"),
        ("layer_norm_eps", float("nan")),
    ],
)
def test_an_impossible_field_is_refused(folder: Path, field: str, value: Any) -> None:
    change(folder / "config.json", **{field: value})
    with pytest.raises(InputError, match=r"^The config\.json of the base model 'm'") as caught:
        open_config(folder, "m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "null"),
        ("tokenizer.json", "{"),
        ("tokenizer_config.json", "null"),
        ("tokenizer_config.json", '{"tokenizer_class": 5}'),
        ("tokenizer_config.json", '{"pad_token": 5}'),
    ],
)
def test_a_tokenizer_file_that_libraries_choke_on_is_refused(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(InputError, match=r"^The tokenizer of the base model 'm' cannot be used: ") as caught:
        open_tokenizer(folder, "m", pads=True)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_its_vocabulary_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        InputError, match=r"tokenizer of the base model 'm' in .* has no vocabulary: expected its"
    ):
        open_tokenizer(folder, "m", pads=True)


def test_only_an_encoder_needs_a_padding_token(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", "llama", padding=False)
    open_tokenizer(folder, "m", pads=False)
    with pytest.raises(
        InputError, match="tokenizer of the base model 'm' has no padding token: expected one"
    ):
        open_tokenizer(folder, "m", pads=True)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda weights: weights["embeddings.word_embeddings.weight"].fill_(torch.nan),
            "holds NaN or infinite numbers",
        ),
        (
            lambda weights: weights["encoder.layer.1.output.dense.bias"][:1].fill_(torch.inf),
            "holds NaN or infinite",
        ),
        (
            lambda weights: weights.pop("encoder.layer.1.output.dense.bias"),
            r"has no weights for .* \(1 missing\)",
        ),
    ],
)
def test_weights_that_are_not_whole_and_finite_are_refused(
    folder: Path, spoil: Callable[[dict[str, torch.Tensor]], Any], fault: str
) -> None:
    weights = load_file(folder / "model.safetensors")
    spoil(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"of the base model 'm' {fault}|The base model 'm' {fault}"):
        load_weights(AutoModel, folder, "m", "an encoder", "pooler.")


@pytest.mark.parametrize(
    ("layers", "fault"),
    [(1, r"has weights for encoder\.layer\.1\..* left over"), (3, r"has no weights for encoder\.layer\.2")],
)
def test_a_wrong_number_of_layers_is_refused(folder: Path, layers: int, fault: str) -> None:
    change(folder / "config.json", num_hidden_layers=layers)
    with pytest.raises(InputError, match=rf"^The base model 'm' {fault}"):
        load_weights(AutoModel, folder, "m", "an encoder", "pooler.")


def test_weights_of_another_head_and_constants_may_be_left_over(folder: Path) -> None:
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    weights["cls.predictions.bias"] = torch.ones(3)
    weights["bert.embeddings.position_ids"] = torch.arange(64)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    load_weights(AutoModel, folder, "m", "an encoder", "pooler.")


def test_whatever_a_library_raises_is_one_sentence_but_for_an_interruption() -> None:
    class Panic(BaseException):
        pass

    for error in (RecursionError("a\nb"), MemoryError(), Panic("c")):
        with (
            pytest.raises(InputError, match=rf"^It failed: {type(error).__name__}.*\.$") as caught,
            library_errors("It failed"),
        ):
            raise error
        assert "\n" not in str(caught.value)
    with pytest.raises(KeyboardInterrupt), library_errors("It failed"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_language_model_pads_with_its_end_where_padding_is_outside_the_table(
    name: str, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base", name, padding=False)
    tokenizer = open_tokenizer(base, "m", pads=False)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(base)
    opened = open_tokenizer(base, "m", pads=False)
    assert opened.pad_token_id == opened.eos_token_id
    with pytest.raises(
        InputError,
        match=r"^The tokenizer of the base model 'm' writes '<pad>', which has no row in the model's embedding",
    ):
        open_tokenizer(base, "m", pads=True)


def test_an_end_of_sequence_or_a_vocabulary_outside_the_table_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base", "llama")
    tokenizer = open_tokenizer(base, "m", pads=False)
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    tokenizer.save_pretrained(base)
    with pytest.raises(InputError, match=r"writes '<end>', which has no row in the model's embedding table"):
        open_tokenizer(base, "m", pads=False)
    change(folder / "config.json", vocab_size=1000)
    with pytest.raises(InputError, match=r"expected ids below the vocab_size 1000 of its config\.json\.$"):
        open_tokenizer(folder, "m", pads=True)
