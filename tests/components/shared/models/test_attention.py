"""Attention on a CPU without AMX: float32 whatever autocast asks for, and no memory for pairs of tokens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language_models import model_of
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models import attention as attention_module
from gradsift.components.shared.models.attention import attention
from gradsift.components.shared.models.precision import autocast

CPU = torch.device("cpu")
LENGTH = 16
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
NUMBERS = torch.zeros(LENGTH, LENGTH).masked_fill(~CAUSAL, -1e9)


@pytest.fixture(autouse=True)
def without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "has_amx", lambda: False)


def some_inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, LENGTH, 8, generator=generator).requires_grad_(True) for _ in range(3)]


@pytest.mark.parametrize(
    "options",
    [
        {"attention_mask": None},
        {"attention_mask": CAUSAL},
        {"attention_mask": NUMBERS},
        {"attention_mask": None, "position_bias": torch.ones(1, 3, 1, LENGTH).cumsum(3)},
    ],
)
def test_it_is_that_of_float32_under_autocast(options: dict[str, Any]) -> None:
    query, key, value = some_inputs()
    scores = query @ key.mT / 8**0.5 + options.get("position_bias", 0.0)
    weights = scores.masked_fill(~CAUSAL, -torch.inf).softmax(-1)
    expected = (weights @ value).transpose(1, 2)
    with autocast(CPU, "bf16"):
        found, _ = attention(nn.Module(), query, key, value, **options)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    direction = torch.linspace(-1, 1, found.numel()).view_as(found)
    torch.testing.assert_close(
        torch.autograd.grad((found * direction).sum(), (query, key, value)),
        torch.autograd.grad((expected * direction).sum(), (query, key, value)),
    )


def test_with_amx_it_stays_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "has_amx", lambda: True)
    query, key, value = some_inputs()
    with autocast(CPU, "bf16"):
        assert attention(nn.Module(), query, key, value, None)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_model_keeps_nothing_for_pairs_of_tokens(
    bases: dict[str, Path], data: PreparedData, recomputed: bool
) -> None:
    """What is recomputed in the backward pass is recomputed alike."""
    model = model_of(bases["llama"], data).train()
    if recomputed:
        model.lm.gradient_checkpointing_enable({"use_reentrant": False})
    examples = [{"input_ids": [5 + row] * 100, "label": [7, 8]} for row in range(2)]
    shapes = []

    def note(saved: Tensor) -> Tensor:
        if saved.is_floating_point():
            shapes.append(tuple(saved.shape[-2:]))
        return saved

    with saved_tensors_hooks(note, lambda saved: saved), autocast(CPU, "bf16"):
        loss = model(**model.batch(examples))["loss"]
    loss.backward()
    assert shapes
    assert (101, 101) not in shapes
    assert any(bool(each.grad.any()) for each in model.parameters() if each.grad is not None)
