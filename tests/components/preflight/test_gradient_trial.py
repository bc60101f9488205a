"""The families of the README work, and others are refused by name before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from tiny_language_models import make_tokenizer
from transformers import AutoConfig, PreTrainedTokenizerBase

from gradsift.components.preflight import gradient_trial
from gradsift.components.preflight.gradient_trial import MAX_LAYERS, MAX_WIDTHS, tiny_config, try_gradients
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.model_kind import ModelKind
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Scope

RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
FAMILIES: dict[str, tuple[ModelKind, str, dict[str, Any]]] = {
    "ALBERT": ("encoder", "albert", {}),
    "BERT": ("encoder", "bert", {}),
    "CamemBERT": ("encoder", "camembert", {}),
    "DeBERTa": ("encoder", "deberta", RELATIVE),
    "DeBERTa-v2": ("encoder", "deberta-v2", RELATIVE),
    "DeBERTa-v3": (
        "encoder",
        "deberta-v2",
        {**RELATIVE, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
    ),
    "DistilBERT": ("encoder", "distilbert", {}),
    "ELECTRA": ("encoder", "electra", {}),
    "ModernBERT": ("encoder", "modernbert", {}),
    "MPNet": ("encoder", "mpnet", {}),
    "RoBERTa": ("encoder", "roberta", {}),
    "XLM-RoBERTa": ("encoder", "xlm-roberta", {}),
    "BLOOM": ("causal", "bloom", {}),
    "Cohere": ("causal", "cohere", {}),
    "Gemma": ("causal", "gemma", {}),
    "Gemma 2": ("causal", "gemma2", {}),
    "Gemma 3": ("causal", "gemma3_text", {}),
    "GLM": ("causal", "glm", {}),
    "GPT-2": ("causal", "gpt2", {}),
    "GPT-J": ("causal", "gptj", {}),
    "GPT-Neo": ("causal", "gpt_neo", {"attention_types": [[["global"], 2]], "num_layers": 2}),
    "GPT-NeoX": ("causal", "gpt_neox", {}),
    "Granite": ("causal", "granite", {}),
    "Llama": ("causal", "llama", {}),
    "Mistral": ("causal", "mistral", {}),
    "OLMo 2": ("causal", "olmo2", {}),
    "Phi": ("causal", "phi", {}),
    "Phi-3": ("causal", "phi3", {}),
    "Qwen2": ("causal", "qwen2", {}),
    "Qwen3": ("causal", "qwen3", {}),
    "SmolLM3": ("causal", "smollm3", {}),
    "StableLM": ("causal", "stablelm", {}),
    "StarCoder2": ("causal", "starcoder2", {}),
    "BART": ("seq2seq", "bart", {}),
    "mBART": ("seq2seq", "mbart", {}),
    "mT5": ("seq2seq", "mt5", {}),
    "Pegasus": ("seq2seq", "pegasus", {}),
    "T5": ("seq2seq", "t5", {}),
}
README = Path(__file__).parents[3] / "README.md"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    made: PreTrainedTokenizerBase = make_tokenizer()
    return made


def trial(kind: ModelKind, model_type: str, tokenizer: Any, fields: Any, **settings: Any) -> str:
    config = AutoConfig.for_model(model_type, **{"num_hidden_layers": 2, **fields}, pad_token_id=4)
    config.get_text_config().vocab_size = len(tokenizer)
    return try_gradients(ModelConfig(base_model="mine", **settings), kind, config, tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_a_family_are_right(family: str, tokenizer: Any) -> None:
    kind, model_type, fields = FAMILIES[family]
    found = trial(kind, model_type, tokenizer, fields, train_embeddings=True)
    assert found == "gradients of two rows are right at a tiny size"


def test_the_readme_lists_these_families() -> None:
    text = " ".join(README.read_text(encoding="utf-8").split())
    [_, listed] = text.split("Gradients are right for these families: ")
    assert listed.partition(". ")[0].split(", ") == sorted(FAMILIES, key=str.lower)


@pytest.mark.parametrize(
    ("kind", "model_type", "reason"),
    [
        ("causal", "falcon", "its module is a FalconLinear"),
        ("causal", "mamba", "its module is a MambaMixer"),
        ("causal", "opt", "not row by row"),
        ("encoder", "mobilebert", "its module is a NoNorm"),
    ],
)
def test_other_families_are_refused_by_name(
    kind: ModelKind, model_type: str, reason: str, tokenizer: Any
) -> None:
    with pytest.raises(InputError) as caught:
        trial(kind, model_type, tokenizer, {})
    assert f"'mine' is of type '{model_type}', expected one of the families that the README" in str(
        caught.value
    )
    assert reason in str(caught.value)


def test_adapters_are_tried_as_they_will_be_trained(tokenizer: Any) -> None:
    assert "right" in trial("causal", "opt", tokenizer, {}, lora_rank=2, lora_targets="q_proj,v_proj")
    with pytest.raises(InputError, match="lora_targets names query, which the base model 'mine' has not"):
        trial("causal", "llama", tokenizer, {}, lora_rank=2, lora_targets="query")


def test_a_large_model_is_tried_small(tokenizer: Any) -> None:
    sizes = {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
    }
    config = AutoConfig.for_model("llama", **sizes, num_key_value_heads=8, vocab_size=128256)
    tiny = tiny_config(config, MAX_LAYERS | MAX_WIDTHS)
    assert (tiny.hidden_size, tiny.num_hidden_layers, tiny.vocab_size) == (32, 4, 128256)
    assert tiny.num_key_value_heads < tiny.num_attention_heads
    assert config.hidden_size == 8192


def test_what_cannot_be_made_tiny_is_said_to_be_untried(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_trial, "MAX_BYTES", 400)
    assert trial("encoder", "bert", tokenizer, {}).startswith("gradients of this type were not tried")


def test_tables_that_a_network_keeps_beside_its_weights_count(tokenizer: Any) -> None:
    config = AutoConfig.for_model(
        "gpt_neo",
        num_layers=1,
        attention_types=[[["global"], 1]],
        vocab_size=400,
        max_position_embeddings=20_000,
    )
    words = try_gradients(ModelConfig(base_model="mine"), "causal", config, tokenizer)
    assert words.startswith("gradients of this type were not tried")


@pytest.mark.parametrize(
    "fields",
    [
        {"num_attention_heads": 7},
        {"hidden_act": "nope"},
        {"pad_token_id": 10**7},
        {"hidden_dropout_prob": 2.0},
        {"chunk_size_feed_forward": 3},
        {"return_dict": False},
        {"type_vocab_size": 0},
    ],
    ids=str,
)
def test_a_configuration_of_no_model_is_refused(fields: dict[str, Any], tokenizer: Any) -> None:
    sizes = {"num_hidden_layers": 1, "vocab_size": 400, "hidden_size": 64, "num_attention_heads": 4}
    config = AutoConfig.for_model("bert", **sizes)
    for name, value in fields.items():
        setattr(config, name, value)
    with pytest.raises(
        InputError, match=r"^The config\.json of the base model 'mine' describes no model that can"
    ):
        try_gradients(ModelConfig(base_model="mine"), "encoder", config, tokenizer)


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(tokenizer: Any) -> None:
    config = AutoConfig.for_model("gpt2", n_layer=1, vocab_size=10)
    with pytest.raises(InputError, match="describes no model that can be used: IndexError"):
        try_gradients(ModelConfig(base_model="mine"), "causal", config, tokenizer)


def test_weights_of_half_precision_are_tried(tokenizer: Any) -> None:
    assert "right" in trial("causal", "qwen2", tokenizer, {"dtype": "bfloat16"})


@pytest.mark.parametrize(
    ("kind", "model_type", "settings", "scope", "expected"),
    [
        ("encoder", "bert", {}, "late", "'all', as the base model has 2 layers of its own, fewer than 3."),
        ("encoder", "bert", {}, "head", "some of all, early, middle, late, embeddings, as the head"),
        ("causal", "gpt2", {"lora_rank": 2}, "embeddings", "all, early, middle or late, as adapters are"),
        ("causal", "gpt2", {}, "head", "model_train_embeddings true, or another scope, as the output layer"),
    ],
)
def test_a_scope_that_cannot_be_trained_is_refused(
    tokenizer: Any,
    kind: ModelKind,
    model_type: str,
    settings: dict[str, Any],
    scope: Scope,
    expected: str,
) -> None:
    config = AutoConfig.for_model(model_type, num_hidden_layers=2, pad_token_id=4, vocab_size=len(tokenizer))
    with pytest.raises(InputError, match=f"^Parameter fine_tune_scopes holds '{scope}': expected {expected}"):
        try_gradients(ModelConfig(base_model="mine", **settings), kind, config, tokenizer, [scope])
