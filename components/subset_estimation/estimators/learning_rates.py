"""The learning rates of gradient descent in the linear model that stand for AdamW's in the network.

Meta-training is the run that is known: it started at the base weights, took all tasks, and moved the margins of the
train rows by as much as the store says. The rate at which the simulated meta-training moves them as far (root mean
square) stands for its learning rate, and the rate of fine-tuning is in proportion. Their sizes are matched and not
their regression, which would take what is not explained row by row for a shorter way.
"""

from dataclasses import replace

import numpy as np

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.subset_estimation.estimators.run_rates import RunRates
from gradsift.components.subset_estimation.estimators.simulated import Simulated
from gradsift.components.subset_estimation.statistics.run_start import RunStart

FACTORS = 2.0 ** np.arange(-2, 3)
"""The grid of learning rates around the matched one."""
MAX_MATCHING_STEPS = 128
STABLE, POWER_STEPS = 1.0, 20
TRIED = 2.0 ** np.arange(-8, 17)
"""Sums of steps that are tried in matching, in units of the inverse of the rows' mean curvature bound."""


def learning_rates(start: RunStart, fine_tuning: TrainingRecipe, meta_training: TrainingRecipe) -> FloatArray:
    """Return the grid of effective peak learning rates of fine-tuning runs, in units of the features.

    Args:
        start: rows and sums at the weights that fine-tuning starts from.
        fine_tuning: the recipe of the runs.
        meta_training: the recipe of the run from the base weights to theta*.

    Raises:
        GradientStoreError: meta-training changed no margin.
    """
    centre = matched_rate(start, meta_training) * fine_tuning.learning_rate / meta_training.learning_rate
    rates: FloatArray = FACTORS * np.float64(centre)
    return rates


def matched_rate(start: RunStart, recipe: TrainingRecipe) -> float:
    """Return the rate at which a run on all tasks moves margins as far from the base weights' as theta* lies."""
    rows = replace(start.rows, margin=start.rows.base_margin)
    everything = np.ones((1, len(start.counts)))
    rates = RunRates(recipe, start.counts)
    rates = replace(rates, stride=max(1, rates.steps(everything).shape[1] // MAX_MATCHING_STEPS))
    shares = rows.shares(rates.task_shares(everything))[0]
    true = float(shares @ (rows.meta_margin.astype(np.float64) - rows.base_margin) ** 2)
    bound = float(shares @ np.vecdot(rows.feature, rows.feature)) / 4
    if true == 0 or bound == 0:
        raise GradientStoreError(
            "The margins at theta* are those at the base weights, so that nothing is known of how far training "
            "goes: expected a meta-trained model, or the estimator 'gauss_newton'."
        )
    tried = TRIED / (bound * rates.steps(everything).sum())
    weights = Simulated(rows, rates, tried).weights(everything)[0]
    moved = shares @ (rows.feature @ weights.T) ** 2
    reached = np.maximum.accumulate(moved)
    return float(np.exp(np.interp(np.log(true), np.log(reached), np.log(tried))))


def stable_stride(start: RunStart, largest_rate: float) -> int:
    """Return how many steps of a run can be taken as one, so that descent at this rate stays stable.

    A step is stable where rate times curvature stays below `STABLE`; half of what would make it diverge. The mean
    curvature of a subset is at most that of its task with the largest: the power method finds it.
    """
    direction = np.ones((len(start.curvature), start.curvature.shape[-1]))
    for _ in range(POWER_STEPS):
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), np.finfo(float).tiny)
        direction = np.einsum("kij,kj->ki", start.curvature, direction)
    largest = float(np.linalg.norm(direction, axis=1).max())
    return max(1, int(STABLE / max(largest_rate * largest, np.finfo(float).tiny)))
