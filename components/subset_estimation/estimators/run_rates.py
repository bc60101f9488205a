"""What a fine-tuning run does with its rows: its steps, their sizes, and how often it draws a task's rows."""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.training import TrainingRecipe


@dataclass(frozen=True)
class RunRates:
    """The recipe of a run, for subsets of tasks with so many rows.

    Attributes:
        recipe: the recipe.
        rows: [n + 1], train rows of the auxiliary tasks and the target.
        stride: steps of the run that are taken as one, whose size is their sum.
    """

    recipe: TrainingRecipe
    rows: FloatArray
    stride: int = 1

    def steps(self, memberships: FloatArray) -> FloatArray:
        """Return the factors of the learning rate [m, K] of subsets [m, n + 1]; a shorter run ends with zeros."""
        counts = [self.recipe.optimizer_steps(int(rows)) for rows in memberships @ self.rows]
        factors = {count: self._strides(learning_rate_factors(count)) for count in set(counts)}
        longest = max(map(len, factors.values()))
        return np.stack([np.pad(factors[count], (0, longest - len(factors[count]))) for count in counts])

    def task_shares(self, memberships: FloatArray) -> FloatArray:
        """Return the share [m, n + 1] of each task in what the run draws (see `example_order`)."""
        weights = memberships * self.rows**self.recipe.sampling_exponent
        shares: FloatArray = weights / weights.sum(axis=1, keepdims=True)
        return shares

    def _strides(self, factors: FloatArray) -> FloatArray:
        return np.add.reduceat(factors, np.arange(0, len(factors), self.stride))


def learning_rate_factors(steps: int) -> FloatArray:
    """Return the factors [steps] of the peak learning rate: linear from 0 over a tenth of the steps, then to 0.

    They are those of `get_linear_schedule_with_warmup` in transformers, whose first step is of size 0.
    """
    warmup, step = max(1, steps // 10), np.arange(steps)
    rising, falling = step / warmup, (steps - step) / max(1, steps - warmup)
    return np.where(step < warmup, rising, falling)
