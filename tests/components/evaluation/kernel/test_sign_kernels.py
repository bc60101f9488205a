"""Kernels of whole gradients and of signs, against explicit Jacobians and regressions in the steps themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from tiny_language_models import make_base, write_prepared_data

from gradsift.components.evaluation.kernel import sign_kernels
from gradsift.components.evaluation.kernel.linearisation import Step
from gradsift.components.evaluation.kernel.sign_kernels import Products, gradient_products, regress
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.records.kernel_report import RIDGES, KernelName


def model_of(
    kind: str, prepared_data: StepOutput, encoder: Path, folder: Path
) -> tuple[TaskModel, PreparedData]:
    if kind == "encoder":
        base, data = encoder, PreparedData(fetch(prepared_data))
    else:
        base, data = make_base(folder / "base", kind), PreparedData(write_prepared_data(folder))
    model = from_base(ModelConfig(base_model=str(base), max_length=32), data).eval()
    model.freeze_untrained(train_embeddings=False)
    return model, data


@pytest.mark.parametrize("kind", ["encoder", "llama"])
def test_products_are_those_of_explicit_jacobians_however_they_are_cut(
    kind: str, prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = model_of(kind, prepared_data, tiny_encoder, tmp_path)
    examples = model.encode(data.split(data.target, "train").select(range(4)), data.target)
    rows = [model.batch([example]) for example in examples]
    step = Step(model, dict(model.named_parameters()))
    trained = [each for each in model.parameters() if each.requires_grad]
    jacobian = np.stack(
        [
            torch.cat(
                [each.flatten() for each in torch.autograd.grad(model.answers(row).margins().sum(), trained)]
            ).numpy()
            for row in rows
        ]
    ).astype(np.float64)
    signs = np.sign(jacobian)
    monkeypatch.setattr(sign_kernels, "MAX_NUMBERS", 4 * (jacobian.shape[1] // 3 + 1))
    counted: list[int] = []
    found = gradient_products(step, rows, 3, counted.append)
    assert counted == [4, 4, 4], "three parts that begin and end within parameters"
    assert found.plain == pytest.approx(jacobian @ jacobian[:3].T, rel=1e-3)
    assert found.mixed == pytest.approx(jacobian @ signs[:3].T, rel=1e-3)
    assert found.signs == pytest.approx(signs @ signs[:3].T, abs=2), "numbers near 0 round to either sign"


def best_step(margin: np.ndarray, feature: np.ndarray, vectors: np.ndarray, ridge: float) -> np.ndarray:
    def objective(dual: np.ndarray) -> float:
        w = dual @ vectors
        return float(np.logaddexp(0, -(margin + feature @ w)).sum() + ridge / 2 * w @ w)

    dual: np.ndarray = minimize(objective, np.zeros(len(vectors)), tol=1e-12).x
    return dual @ vectors


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_kernel_answers_as_the_best_step_among_the_train_rows_vectors(seed: int) -> None:
    """The step itself is sought, w = sum_i a_i z_i in 30 dimensions, in place of inner products."""
    generator = np.random.default_rng(seed)
    train, rows = 6, 10
    jacobian, margin = generator.normal(size=(rows, 30)) + 0.3, generator.normal(size=rows)
    signs = np.sign(jacobian)
    products = Products(jacobian @ jacobian[:train].T, jacobian @ signs[:train].T, signs @ signs[:train].T)
    vectors = {"sgd": (jacobian, jacobian), "a_sign": (jacobian, signs), "sign": (signs, signs)}
    for found in regress(products, margin, np.ones(rows), two_labels=True):
        feature, basis = vectors[found.kernel]
        projected = feature @ np.linalg.pinv(basis[:train]) @ basis[:train]
        unit = np.square(projected[:train]).sum() / 4 / train
        ridge = found.answered.ridge * unit
        assert found.answered.ridge in RIDGES
        w = best_step(margin[:train], feature[:train], basis[:train], ridge)
        answered = (margin + feature @ w)[train:]
        assert found.answered.loss == pytest.approx(np.logaddexp(0, -answered).mean(), rel=1e-3)
        assert found.answered.accuracy == (answered > 0).mean()


def answers(kernel: KernelName, gradients: np.ndarray, margin: np.ndarray) -> float:
    signs, train = np.sign(gradients), len(gradients) // 2
    products = Products(gradients @ gradients[:train].T, gradients @ signs[:train].T, signs @ signs[:train].T)
    [found] = [
        each for each in regress(products, margin, np.ones(len(margin)), True) if each.kernel == kernel
    ]
    return found.answered.loss


def test_the_ridge_is_chosen_on_train_rows_left_out() -> None:
    """A direction that train rows have in common lowers the loss; noise alone does not, by the largest ridge."""
    generator = np.random.default_rng(0)
    margin, noise = np.zeros(200), generator.normal(size=(200, 5))
    start = np.log(2)
    assert answers("sgd", noise + 1, margin) < 0.5 * start
    assert answers("sign", noise + 1, margin) < 0.5 * start
    assert answers("sgd", noise, margin) == pytest.approx(start, rel=0.02)


def test_one_train_row_is_enough() -> None:
    gradients = np.array([[1.0, 2.0], [2.0, 1.0]])
    assert answers("sgd", gradients, np.zeros(2)) < np.log(2)
