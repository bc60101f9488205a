"""How long a recipe trains, and settings that no run could use."""

import math
from typing import Any

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe


@pytest.mark.parametrize(
    ("recipe", "rows", "steps"),
    [
        (TrainingRecipe(steps=7), 1000, 7),
        (TrainingRecipe(epochs=2, batch_size=32), 100, 7),
        (TrainingRecipe(epochs=2, batch_size=32), 96, 6),
        (TrainingRecipe(epochs=0.01, batch_size=32), 10, 1),
        (TrainingRecipe(steps=7, epochs=0), 10, 7),
    ],
)
def test_optimizer_steps(recipe: TrainingRecipe, rows: int, steps: int) -> None:
    assert recipe.optimizer_steps(rows) == steps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "Parameter epochs is 0: expected a number above 0."),
        ({"epochs": math.inf}, "Parameter epochs is inf: expected a number above 0."),
        ({"steps": -1}, "Parameter steps is -1: expected 0 or more."),
        ({"learning_rate": 0.0}, "Parameter learning_rate is 0.0: expected a number above 0."),
        ({"learning_rate": math.nan}, "Parameter learning_rate is nan: expected a number above 0."),
        ({"batch_size": 0}, "Parameter batch_size is 0: expected 1 or more."),
        ({"sampling_exponent": 1.5}, "Parameter sampling_exponent is 1.5: expected 0 to 1."),
        ({"sampling_exponent": math.nan}, "Parameter sampling_exponent is nan: expected 0 to 1."),
        ({"weight_decay": -0.1}, "Parameter weight_decay is -0.1: expected 0 or more."),
        ({"weight_decay": math.nan}, "Parameter weight_decay is nan: expected 0 or more."),
        ({"zero_stage": 4}, "Parameter zero_stage is 4: expected 0, 1, 2 or 3, or -1 to choose one."),
        ({"precision": "fp16"}, "Parameter precision is 'fp16': expected one of auto, bf16, float32."),
        ({"nodes": 0}, "Parameter nodes is 0: expected 1 or more."),
        (
            {"batch_size": 32, "nodes": 3, "processes": 2},
            "Parameter batch_size is 32: expected a multiple of the 6 processes.",
        ),
        ({"processes": -1}, "Parameter processes is -1: expected 0 or more."),
        (
            {"batch_size": 32, "processes": 3},
            "Parameter batch_size is 32: expected a multiple of the 3 processes.",
        ),
        ({"checkpoint_steps": 0}, "Parameter checkpoint_steps is 0: expected 1 or more."),
        ({"seed": -1}, "Parameter seed is -1: expected 0 or more."),
    ],
)
def test_a_wrong_recipe_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        TrainingRecipe(**settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "mlp"}, "Parameter head is 'mlp': expected one of label_embedding, linear."),
        ({"score_scale": 0.0}, "Parameter score_scale is 0.0: expected a number above 0."),
        ({"max_length": 3}, "Parameter max_length is 3: expected 4 or more."),
    ],
)
def test_a_wrong_model_config_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        ModelConfig(**settings)
    assert str(error.value) == message
