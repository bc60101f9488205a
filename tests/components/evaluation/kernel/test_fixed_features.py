"""Projected gradients of margins against plain backward passes, and kernels that stay or grow."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gradsift.components.evaluation.kernel.fixed_features import features_of, margin_gradients
from gradsift.components.evaluation.kernel.linearisation import Step
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
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
    exact = []
    for row in range(3):
        margin = model.answers({name: value[row : row + 1] for name, value in batch.items()}).margins()
        exact.append(torch.autograd.grad(margin.sum(), [model.get_parameter(name) for name in step.start]))
    sketcher = GradientSketcher(model, list(step.start), dimension=64, width=512, seed=0)
    found = margin_gradients(step, 1.0, sketcher, [batch])
    sketch = sketcher.projection.empty_sketch(3)
    for name, *gradients in zip(step.start, *exact, strict=True):
        sketcher.projection.add_whole(sketch, name, torch.stack(gradients))
    assert found == pytest.approx(sketcher.projection.finish(sketch).numpy(), rel=1e-3, abs=1e-3)
    assert not np.allclose(margin_gradients(step, 0.0, sketcher, [batch]), found, rtol=0.01)


def test_a_kernel_that_only_grows_keeps_its_cosine() -> None:
    gradients = np.random.default_rng(0).normal(size=(5, 400))
    same = features_of(gradients, gradients)
    assert (same.cosine, same.change, same.growth, same.fixed) == (pytest.approx(1), 0.0, 1.0, True)
    grown = features_of(gradients, 2 * gradients)
    assert (grown.cosine, grown.growth, grown.change) == pytest.approx((1.0, 4.0, 3.0))
    assert not grown.fixed
    assert 0.8 < same.projection_cosine < 1


def test_the_projection_is_judged_by_its_halves() -> None:
    half = np.random.default_rng(0).normal(size=(4, 6))
    assert features_of(np.hstack([half, half]), half).projection_cosine == pytest.approx(1)
    apart = np.hstack([half[:, :1] * [[1], [0], [0], [0]], half[:, :1] * [[0], [1], [0], [0]]])
    assert features_of(apart, half).projection_cosine == 0
