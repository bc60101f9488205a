"""Derivatives along a step against exact ones, and R2 of models that are linear and of trainings that are short."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_language_models import make_base, write_prepared_data
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradsift.components.evaluation.kernel.linearisation import Linearisation, Step, linearise, tangent_of
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.task_model import Batch, TaskModel
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.records.kernel_report import Answered

ANSWERED = Answered(loss=0.5, accuracy=0.5)


def parameters(model: TaskModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def train(model: TaskModel, batch: Batch, steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch)["loss"].backward()
        optimizer.step()


def moved(
    model: TaskModel, batch: Batch, steps: int = 2, rate: float = 1e-4
) -> tuple[Step, dict[str, Tensor]]:
    """Train the model for some steps; return the step and the weights before."""
    start = parameters(model)
    train(model, batch, steps, rate)
    return Step(model, start), start


def batch_of(model: TaskModel, data: PreparedData, rows: int = 8) -> Batch:
    return model.batch(model.encode(data.split(data.target, "train").select(range(rows)), data.target))


@pytest.fixture(params=["encoder", "llama", "flan_t5"])
def model_and_batch(
    request: Any, prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> Iterator[tuple[TaskModel, Batch]]:
    if request.param == "encoder":
        base, data = tiny_encoder, PreparedData(fetch(prepared_data))
    else:
        base, data = make_base(tmp_path / "base", request.param), PreparedData(write_prepared_data(tmp_path))
    model = from_base(ModelConfig(base_model=str(base), max_length=32), data).eval().double()
    with sdpa_kernel(SDPBackend.MATH):  # the one that has forward derivatives
        yield model, batch_of(model, data)


def test_central_differences_are_the_exact_jacobian_times_the_step(
    model_and_batch: tuple[TaskModel, Batch],
) -> None:
    model, batch = model_and_batch  # float64, so that rounding hides nothing
    step, start = moved(model, batch)

    def read(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        result = functional_call(model, weights, (), dict(batch))
        answers = Answers(result["logits"].nan_to_num(neginf=-1e4), result["label"])
        return answers.margins(), answers.logits

    with torch.no_grad():
        found = step.derivative(batch, start)
        _, exact = jvp(read, (step.start,), (step.difference,))
    for one, other in zip(found, exact, strict=True):
        assert one.abs().max() > 0
        assert (one - other).abs().max() <= 1e-3 * other.abs().max()


def linearised(data: PreparedData, encoder: Path, head: bool, steps: int, rate: float) -> Linearisation:
    """Train an encoder, or its linear head alone, and linearise at the start."""
    config = ModelConfig(base_model=str(encoder), head="linear" if head else "label_embedding", max_length=32)
    model = from_base(config, data).eval()
    if head:
        model.shared.requires_grad_(False)
    batch = batch_of(model, data, rows=12)
    step, start = moved(model, batch, steps, rate)
    return linearise(step, {"base": start}, [batch])


def test_a_linear_model_keeps_to_first_order(prepared_data: StepOutput, tiny_encoder: Path) -> None:
    """Two classes and a trained head on a frozen encoder: margins are linear, however long the training."""
    found = linearised(PreparedData(fetch(prepared_data)), tiny_encoder, head=True, steps=30, rate=0.1)
    [tangent] = found.tangents()
    assert found.along[-1].answered.loss < found.start.answered.loss - 0.1
    assert tangent.r2 == pytest.approx([1.0] * 4, abs=1e-3)
    assert (tangent.correlation, tangent.slope) == pytest.approx((1.0, 1.0), abs=1e-3)
    assert tangent.answered.loss == pytest.approx(found.along[-1].answered.loss, rel=1e-3)
    assert tangent.verdict == "holds"


def test_r2_rises_as_the_training_gets_shorter(prepared_data: StepOutput, tiny_encoder: Path) -> None:
    data = PreparedData(fetch(prepared_data))
    tangents = [
        linearised(data, tiny_encoder, head=False, steps=steps, rate=1e-3).tangents()[0]
        for steps in (24, 8, 2)
    ]
    assert all(tangent.r2[0] > tangent.r2[-1] for tangent in tangents)
    ends = [tangent.r2[-1] for tangent in tangents]
    assert ends == sorted(ends)
    assert ends[0] < 0.8 < 0.95 < ends[-1], ends


def test_the_end_of_the_way_is_the_fine_tuned_model(prepared_data: StepOutput, tiny_encoder: Path) -> None:
    data = PreparedData(fetch(prepared_data))
    model = from_base(ModelConfig(base_model=str(tiny_encoder), max_length=32), data).eval()
    batch = batch_of(model, data)
    before = model.answers(batch).detached()
    step, start = moved(model, batch, steps=3, rate=1e-3)
    found = linearise(step, {"base": start}, [batch])
    after = model.answers(batch).detached()
    for reading, answers in ((found.start, before), (found.along[-1], after)):
        assert reading.margin == pytest.approx(answers.margins().numpy(), rel=1e-4, abs=1e-5)
        assert reading.answered.loss == pytest.approx(float(answers.losses().mean()), rel=1e-4)
        assert reading.answered.accuracy == float(answers.right().float().mean())
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    ends, starts = (
        torch.cat([each[name].flatten() for name in trained]) for each in (parameters(model), start)
    )
    assert step.relative_length == pytest.approx(float((ends - starts).norm() / starts.norm()), rel=1e-4)


def test_a_tangent_is_judged_by_its_end() -> None:
    derivative = np.array([1.0, -2.0, 3.0, 0.5])
    exact = [share * derivative for share in (0.25, 0.5, 0.75, 1.0)]
    holds = tangent_of("base", exact, derivative, ANSWERED)
    assert (holds.r2, holds.slope, holds.verdict) == ([1.0] * 4, 1.0, "holds")
    farther = tangent_of("base", [*exact[:3], 2 * derivative], derivative, ANSWERED)
    assert (farther.r2, farther.slope) == ([1.0, 1.0, 1.0, 0.75], 2.0)
    assert farther.verdict == "holds in direction"
    against = tangent_of("base", [*exact[:3], -derivative], derivative, ANSWERED)
    assert (against.r2[-1], against.correlation) == (pytest.approx(-3.0), pytest.approx(-1.0))
    assert against.verdict == "fails"


def test_a_step_that_moves_no_margin_has_no_correlation() -> None:
    still = tangent_of("meta", [np.zeros(3)] * 4, np.zeros(3), ANSWERED)
    assert (still.r2, still.correlation, still.slope, still.verdict) == ([1.0] * 4, None, None, "holds")
