"""The limit on a group's covariance: its loss row by row is the Lagrangian, and its multipliers follow the rows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evicted_training import train_until
from forked_training import forked_training
from grouped_data import grouped_data
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional

from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.parameters.fairness import FairnessConfig, Space
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.group_results import DualStep, LimitedTraining, limited_training
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.covariance_limit import (
    DEVIATION,
    NEGATIVE,
    POSITIVE,
    CovarianceLimit,
    objective_of,
)
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.training import train

MALE = FairnessConfig(group="male", positive="granted")
TASKS = ["loans", "reviews", "credit"]
RECIPE = TrainingRecipe(
    steps=9, batch_size=8, learning_rate=3e-3, precision="float32", processes=1, checkpoint_steps=2
)
CLASSES = 4


class Batch:
    """Rows of an optimizer step: scores of four classes, right ones, and who is limited."""

    def __init__(self, rows: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.scores = torch.tensor(generator.normal(size=(rows, CLASSES)), dtype=torch.float64)
        self.right = torch.tensor(generator.integers(CLASSES, size=rows))
        deviations = generator.choice([0.6, -0.4, np.nan], rows)
        positive = generator.integers(CLASSES, size=rows)
        negative = (positive + 1) % CLASSES
        free = np.flatnonzero(np.isnan(deviations))
        self.scores[free, negative[free]] = -torch.inf  # a class of another task
        self.right[free] = torch.tensor(positive[free])
        self.columns: dict[str, Any] = {DEVIATION: deviations, POSITIVE: positive, NEGATIVE: negative}

    def loss(self, limit: CovarianceLimit, scores: torch.Tensor, rows: slice) -> torch.Tensor:
        """Return the loss of some rows as the objective has it."""
        answers = Answers(scores[rows, None], self.right[rows, None])
        side = {name: torch.tensor(values[rows]) for name, values in self.columns.items()}
        return limit.loss(answers.losses().mean(), answers, side)

    def decisions(self, space: Space) -> np.ndarray:
        """Return d of every limited row."""
        scores = self.scores.numpy()
        limited = np.flatnonzero(~np.isnan(self.columns[DEVIATION]))
        margins = scores[limited, self.columns[POSITIVE][limited]]
        margins = margins - scores[limited, self.columns[NEGATIVE][limited]]
        return margins if space == "margin" else 1 / (1 + np.exp(-margins))


def limit_of(columns: dict[str, Any], config: FairnessConfig, upper: float, lower: float) -> CovarianceLimit:
    return CovarianceLimit(config, columns, ["loans"], [], DualStep(step=0, upper=upper, lower=lower))


@settings(max_examples=20)
@given(
    parts=st.sampled_from([1, 2, 4, 12]),
    seed=st.integers(0, 1000),
    upper=st.floats(0, 5),
    lower=st.floats(0, 5),
    space=st.sampled_from(["margin", "probability"]),
)
def test_the_mean_over_micro_batches_has_the_gradient_of_the_lagrangian(
    parts: int, seed: int, upper: float, lower: float, space: Space
) -> None:
    batch = Batch(12, seed)
    config = MALE.model_copy(update={"space": space})
    scores = batch.scores.clone().requires_grad_()
    limit = limit_of(batch.columns, config, upper, lower)
    size = 12 // parts
    slices = [slice(start, start + size) for start in range(0, 12, size)]
    loss = sum(batch.loss(limit, scores, rows) for rows in slices) / parts
    [found] = torch.autograd.grad(loss, scores)

    reference = batch.scores.clone().requires_grad_()
    deviations = torch.tensor(batch.columns[DEVIATION])
    terms = []
    for row in torch.isfinite(deviations).nonzero()[:, 0].tolist():
        margin = reference[row, batch.columns[POSITIVE][row]] - reference[row, batch.columns[NEGATIVE][row]]
        terms.append(deviations[row] * (margin if space == "margin" else torch.sigmoid(margin)))
    covariance = sum(terms, torch.tensor(0.0)) / 12
    losses = functional.cross_entropy(reference, batch.right)
    lagrangian = losses + upper * (covariance - config.limit) + lower * (-covariance - config.limit)
    [expected] = torch.autograd.grad(lagrangian, reference)
    torch.testing.assert_close(loss, lagrangian)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("space", ["margin", "probability"])
def test_multipliers_follow_the_covariance_of_a_steps_rows_and_never_fall_below_zero(space: Space) -> None:
    config = MALE.model_copy(update={"space": space, "dual_rate": 2.0})
    limit = limit_of({}, config, 0.0, 0.3)
    upper, lower = 0.0, 0.3
    for step in range(1, 9):
        batch = Batch(12, step)
        for rows in (slice(0, 5), slice(5, 12)):
            batch.loss(limit, batch.scores, rows)
        limit.after_step(step, noted=step % 4 == 0)
        deviations = batch.columns[DEVIATION]
        covariance = np.mean(deviations[~np.isnan(deviations)] * batch.decisions(space))
        upper = max(0.0, upper + 2 * (covariance - 0.05))
        lower = max(0.0, lower + 2 * (-covariance - 0.05))
        assert (limit.upper, limit.lower) == pytest.approx((upper, lower))
    assert [each.step for each in limit.path] == [0, 4, 8]
    assert limit.path[-1] == DualStep(step=8, upper=limit.upper, lower=limit.lower)


def test_a_step_without_limited_rows_leaves_the_multipliers() -> None:
    batch = Batch(12, 0)
    batch.columns[DEVIATION][:] = np.nan
    limit = limit_of(batch.columns, MALE, 0.7, 0.2)
    batch.loss(limit, batch.scores.nan_to_num(neginf=-9.0), slice(0, 12))
    limit.after_step(1, noted=True)
    assert (limit.upper, limit.lower) == (0.7, 0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch(grouped_data(tmp_path_factory.mktemp("grouped")))


@pytest.fixture(scope="module")
def trained(data: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jobs without and with a limit, one of them in micro-batches, and one that continues from a limited one."""
    folder = tmp_path_factory.mktemp("limited")
    free = TrainingJob(
        folder / "free", data, TASKS, ModelConfig(base_model=str(tiny_encoder), max_length=16), RECIPE
    )
    limited = replace(free, folder=folder / "limited", fairness=MALE)
    parts = RECIPE.model_copy(update={"micro_batch_size": 2})
    jobs = [
        free,
        limited,
        replace(limited, folder=folder / "parts", recipe=parts),
        replace(limited, folder=folder / "continued", tasks=["loans"], start=folder / "limited"),
    ]
    run(jobs, folder)
    return folder


def run(jobs: list[TrainingJob], scratch: Path) -> None:
    with forked_training(), track_step("meta_training", str(scratch / "root"), {}) as tracker:
        train(jobs, scratch, tracker)


def training(folder: Path) -> LimitedTraining:
    found = limited_training(json.loads((folder / RESULT).read_text()))
    assert found is not None
    return found


def multipliers(folder: Path) -> list[float]:
    return [value for each in training(folder).path for value in (each.upper, each.lower)]


def test_a_training_says_what_was_limited_and_how_the_multipliers_moved(trained: Path) -> None:
    found = training(trained / "limited")
    assert FairnessConfig(**found.settings) == MALE
    assert (found.tasks, found.unlimited_tasks) == (["loans", "credit"], ["reviews"])
    assert [each.step for each in found.path] == list(range(10))
    assert max(multipliers(trained / "limited")) > 0.01
    assert "fairness" not in json.loads((trained / "free" / RESULT).read_text())
    weights = [(trained / name / "model.safetensors").read_bytes() for name in ("free", "limited")]
    assert weights[0] != weights[1]


def test_micro_batches_train_the_same_model_under_a_limit(trained: Path) -> None:
    assert multipliers(trained / "parts") == pytest.approx(multipliers(trained / "limited"), abs=1e-4)


def test_a_training_from_a_limited_model_begins_with_its_multipliers(trained: Path) -> None:
    first, last = training(trained / "continued").path[0], training(trained / "limited").path[-1]
    assert first == last.model_copy(update={"step": 0})
    assert first != DualStep(step=0, upper=0.0, lower=0.0)


@pytest.mark.slow
def test_two_processes_under_zero_train_the_same_model_under_a_limit(
    trained: Path, data: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"processes": 2})
    model = ModelConfig(base_model=str(tiny_encoder), max_length=16)
    jobs = [
        TrainingJob(
            tmp_path / f"stage{stage}",
            data,
            TASKS,
            model,
            recipe.model_copy(update={"zero_stage": stage}),
            fairness=MALE,
        )
        for stage in (0, 3)
    ]
    run(jobs, tmp_path)
    for job in jobs:
        assert multipliers(job.folder) == pytest.approx(multipliers(trained / "limited"), abs=1e-4)


@pytest.mark.slow
def test_a_limited_training_that_is_evicted_at_any_step_ends_with_the_same_bytes(
    trained: Path, data: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    model = ModelConfig(base_model=str(tiny_encoder), max_length=16)
    jobs = [TrainingJob(tmp_path / "evicted", data, TASKS, model, RECIPE, fairness=MALE)]
    (tmp_path / "jobs.json").write_text(json.dumps([job.to_json() for job in jobs]))
    for stop in (0, 3, 6):
        train_until(tmp_path, stop)
    train_until(tmp_path, -1)
    assert training(tmp_path / "evicted") == training(trained / "limited")
    for name in ("model.safetensors", "head.safetensors"):
        weights, expected = (
            load_file(folder / name) for folder in (tmp_path / "evicted", trained / "limited")
        )
        assert all(torch.equal(value, expected[part]) for part, value in weights.items())


def test_a_language_model_is_refused(data: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    prepared = PreparedData(data)
    job = TrainingJob(
        tmp_path, data, TASKS, ModelConfig(base_model=str(tiny_encoder), max_length=16), RECIPE, fairness=MALE
    )
    encoder = from_base(job.model, prepared)
    assert isinstance(objective_of(job, encoder, prepared), CovarianceLimit)
    with pytest.raises(InputError, match="expected an encoder where fairness_group is set"):
        objective_of(job, torch.nn.Module(), prepared)  # type: ignore[arg-type]  # any other model
