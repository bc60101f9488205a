"""What a model takes is read off its configuration, as the model itself would have it."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.model_kind import check_model_settings, kind_of, max_tokens_of
from gradsift.components.shared.parameters.model import ModelConfig

ENCODERS = [
    "albert",
    "bert",
    "camembert",
    "data2vec-text",
    "deberta-v2",
    "distilbert",
    "electra",
    "longformer",
    "modernbert",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
]


@pytest.mark.parametrize("kind", ENCODERS)
def test_positions_before_the_first_one_used_do_not_count(kind: str) -> None:
    config = AutoConfig.for_model(kind, num_hidden_layers=1)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    tables = [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    skipped = {0 if table.padding_idx is None else table.padding_idx + 1 for table in tables} or {0}
    assert max_tokens_of(config) == config.max_position_embeddings - skipped.pop()


def test_roberta_takes_512_tokens() -> None:
    config = AutoConfig.for_model("roberta", max_position_embeddings=514, pad_token_id=1)
    check_model_settings(ModelConfig(max_length=512), "encoder", config)
    with pytest.raises(
        InputError, match=r"^Parameter model_max_length is 513: expected at most the 512 tokens that"
    ):
        check_model_settings(ModelConfig(max_length=513), "encoder", config)


def test_roberta_is_an_encoder_and_no_decoder(tmp_path: Path) -> None:
    AutoConfig.for_model("roberta").save_pretrained(tmp_path)
    assert kind_of(tmp_path, "m") == "encoder"
    AutoConfig.for_model("roberta", is_decoder=True).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"^The base model 'm' is of type 'roberta': expected an encoder, "):
        kind_of(tmp_path, "m")


def test_a_model_of_relative_positions_takes_any_number_of_tokens() -> None:
    assert max_tokens_of(AutoConfig.for_model("t5")) is None


def test_an_encoder_takes_no_adapters() -> None:
    config = AutoConfig.for_model("bert")
    with pytest.raises(
        InputError, match=r"^Parameter model_lora_rank is 4: expected 0, as the base model .* encoder"
    ):
        check_model_settings(ModelConfig(lora_rank=4), "encoder", config)
    check_model_settings(ModelConfig(lora_rank=4), "causal", AutoConfig.for_model("gpt2"))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("mixtral", {}),
        ("qwen2_moe", {}),
        ("opt", {}),
    ],
)
def test_families_whose_gradients_cannot_be_taken_apart_are_refused(
    kind: str, fields: dict[str, bool]
) -> None:
    config = AutoConfig.for_model(kind, **fields)
    with pytest.raises(
        InputError, match=rf"is of type '{kind}', .*: expected one of the families that the README"
    ):
        check_model_settings(ModelConfig(), "encoder" if "deberta" in kind else "causal", config)


@pytest.mark.parametrize("kind", ["mixtral", "opt"])
def test_adapters_leave_the_weights_of_such_families_alone(kind: str) -> None:
    check_model_settings(
        ModelConfig(lora_rank=4, lora_targets="q_proj"), "causal", AutoConfig.for_model(kind)
    )


@pytest.mark.parametrize("kind", ["bert", "mpnet", "deberta-v2", "llama", "qwen3", "gpt2", "t5"])
def test_other_families_are_not(kind: str) -> None:
    check_model_settings(ModelConfig(), "encoder", AutoConfig.for_model(kind))
