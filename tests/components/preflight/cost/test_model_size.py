"""Operations that are counted from parameters are those that PyTorch carries out."""

import warnings
from pathlib import Path

import pytest
from tiny_language_models import make_base, write_prepared_data
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gradsift.components.preflight.cost.model_size import model_outline, size_of
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.parameters.model import ModelConfig


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("rank", [0, 4])
def test_operations_of_both_passes(architecture: str, rank: int, tmp_path: Path) -> None:
    data = PreparedData(write_prepared_data(tmp_path / "data"))
    base = make_base(tmp_path / "base", architecture)
    config = ModelConfig(base_model=str(base), lora_rank=rank, max_length=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they would stand above the plan's table
        size = size_of(model_outline(config, data), train_embeddings=False)

    model = from_base(config, data)
    model.freeze_untrained(train_embeddings=False)
    rows = model.encode(data.split(data.target, "train"), data.target)
    batch = model.batch(rows[:4])
    with FlopCounterMode(display=False) as forward, sdpa_kernel(SDPBackend.MATH):
        loss = model(**batch)["loss"]
    with FlopCounterMode(display=False) as backward:
        loss.backward()

    count, length = batch["input_ids"].shape
    if architecture == "t5":
        length += batch["label"].shape[1]
    tokens = count * length
    # The output layer, which is not counted, has a tenth or more of these tiny models' operations.
    assert size.forward(tokens, length) == pytest.approx(forward.get_total_flops(), rel=0.2)
    assert size.backward(tokens, length) == pytest.approx(backward.get_total_flops(), rel=0.2)
    assert size.parameters == sum(each.numel() for each in model.parameters())
