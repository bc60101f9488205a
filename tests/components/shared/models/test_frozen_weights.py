"""An adapter's base in bfloat16 gives the losses and gradients that autocast gave, bit for bit, in less memory."""

from pathlib import Path

import pytest
import torch
from tiny_language_models import CONFIGS, LORA, examples_of, model_of
from torch import Tensor

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.frozen_weights import store_base_as_computed
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.training import Precision


def computed(model: TaskModel, data: PreparedData) -> dict[str, Tensor]:
    """The losses of rows, and the gradients of their sum."""
    model.zero_grad()
    with autocast(torch.device("cpu"), "bf16"):
        losses = model.answers(model.batch(examples_of(model, data))).losses()
    losses.sum().backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return {"losses": losses.detach(), **{name: each.clone() for name, each in gradients.items()}}


def weight_bytes(model: TaskModel) -> dict[str, int]:
    return {name: each.nbytes for name, each in model.named_parameters()}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_bit_of_losses_and_gradients_stays(
    bases: dict[str, Path], data: PreparedData, name: str
) -> None:
    model = model_of(bases[name], data, **LORA)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    expected, before = computed(model, data), weight_bytes(model)
    store_base_as_computed(model, "bf16")
    found, after = computed(model, data), weight_bytes(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[each], expected[each]) for each in expected)
    halved = {each for each in before if after[each] == before[each] / 2}
    assert any("base_layer.weight" in each for each in halved)
    assert all(after[each] == before[each] for each in before.keys() - halved)
    assert not any("lora_" in each or "embed" in each or "norm" in each for each in halved)


@pytest.mark.parametrize(("lora", "precision"), [(LORA, "float32"), ({}, "bf16")])
def test_nothing_changes_in_float32_or_where_the_base_is_saved(
    bases: dict[str, Path], data: PreparedData, lora: dict[str, int], precision: Precision
) -> None:
    model = model_of(bases["llama"], data, **lora)
    model.freeze_embeddings()
    before = weight_bytes(model)
    store_base_as_computed(model, precision)
    assert weight_bytes(model) == before
