"""Margins and projected gradients of rows: against plain backward passes, and as a gradient store has them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from synthetic_store import write_store

from gradsift.components.evaluation.kernel.linearisation import Step
from gradsift.components.evaluation.kernel.margin_rows import sketched_rows, stored_rows
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.parameters.model import ModelConfig


def test_gradients_are_those_of_the_margins_along_the_step(
    prepared_data: StepOutput, tiny_encoder: Path
) -> None:
    data = PreparedData(fetch(prepared_data))
    model = from_base(ModelConfig(base_model=str(tiny_encoder), max_length=32), data).eval()
    model.freeze_untrained(train_embeddings=False)
    start = {name: value.detach() * 0.9 for name, value in model.named_parameters()}
    examples = model.encode(data.split(data.target, "train").select(range(3)), data.target)
    batch = model.batch(examples)
    step = Step(model, start)
    exact, margins = [], []
    for row in range(3):
        margin = model.answers({name: value[row : row + 1] for name, value in batch.items()}).margins()
        exact.append(torch.autograd.grad(margin.sum(), [model.get_parameter(name) for name in step.start]))
        margins.append(margin.item())
    sketcher = GradientSketcher(model, list(step.start), dimension=64, width=512, seed=0)
    found = sketched_rows(step, 1.0, sketcher, [batch])
    sketch = sketcher.projection.empty_sketch(3)
    for name, *gradients in zip(step.start, *exact, strict=True):
        sketcher.projection.add_whole(sketch, name, torch.stack(gradients))
    assert found.gradient == pytest.approx(sketcher.projection.finish(sketch).numpy(), rel=1e-3, abs=1e-3)
    assert found.margin == pytest.approx(margins, rel=1e-4)
    assert found.positions.tolist() == [1, 1, 1]
    assert not np.allclose(sketched_rows(step, 0.0, sketcher, [batch]).gradient, found.gradient, rtol=0.01)


def test_rows_of_a_store_are_drawn_across_its_shards(tmp_path: Path) -> None:
    """Shards of four and three rows; the gradient of the loss is minus the error times that of the margin."""
    uri = str(tmp_path / "store")
    digest = write_store(uri, answer="label")
    store = GradientStore(uri, digest)
    found = stored_rows(store, {"one": [0, 3, 5], "target": [1]})
    shards = [*store.read("one", "train"), *store.read("target", "train")]
    places = [(0, 0), (0, 3), (1, 1), (2, 1)]
    assert found.margin == pytest.approx([shards[shard].margin[row] for shard, row in places])
    for own, (shard, row) in enumerate(places):
        positions = shards[shard].positions[row]
        assert found.positions[own] == positions
        loss_gradient = -expit(-found.margin[own]) * found.gradient[own] / positions
        assert loss_gradient == pytest.approx(shards[shard].gradient[row], rel=1e-4)
