"""A base model in the form of a trained one, where it answers before it is trained."""

from pathlib import Path

import pytest
import torch
import transformers
from tiny_language_models import make_base, produce_prepared_data

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.model_loading import before_training, from_base, open_model
from gradsift.components.shared.models.untrained_model import produce_untrained_model
from gradsift.components.shared.parameters.model import ModelConfig


@pytest.fixture
def data(tmp_path: Path) -> StepOutput:
    return produce_prepared_data(tmp_path)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_language_model_is_the_pretrained_one_whatever_the_head(
    data: StepOutput, tmp_path: Path, lora_rank: int
) -> None:
    base = make_base(tmp_path / "base", "llama")
    config = ModelConfig(base_model=str(base), max_length=64, lora_rank=lora_rank, head="linear")
    model = open_model(fetch(produce_untrained_model("gradient_extraction", data, config, str(tmp_path))))
    prepared = PreparedData(fetch(data))
    expected = from_base(ModelConfig(base_model=str(base), max_length=64), prepared)
    examples = expected.encode(prepared.split("next", "val"), "next")
    losses = [each.answers(each.batch(examples)).losses() for each in (model, expected)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_training_finds_the_model_that_its_seed_draws(
    data: StepOutput, tmp_path: Path, lora_rank: int
) -> None:
    """As `worker` does it: seeds everything, then loads the model."""
    base = make_base(tmp_path / "base", "llama")
    config = ModelConfig(base_model=str(base), max_length=64, lora_rank=lora_rank)
    prepared = PreparedData(fetch(data))
    transformers.set_seed(3)
    in_training = from_base(config, prepared).state_dict()
    state = torch.get_rng_state()
    found, other = (before_training(config, prepared, seed).state_dict() for seed in (3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert found.keys() == in_training.keys()
    assert all(torch.equal(found[name], in_training[name]) for name in found)
    assert any(not torch.equal(found[name], other[name]) for name in found) == (lora_rank > 0)


def test_a_head_that_has_to_be_trained_first_is_an_input_error(
    data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    config = ModelConfig(base_model=str(tiny_encoder), head="linear")
    with pytest.raises(
        InputError, match="Parameter head is 'linear': expected 'label_embedding' for gradients"
    ):
        produce_untrained_model("gradient_extraction", data, config, str(tmp_path))
