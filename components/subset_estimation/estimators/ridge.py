"""The ridge: how strongly the estimated weights are held at theta*.

A ridge R keeps the step short as early stopping does: gradient flow over time t fits the directions that
ridge regression with R = 1/t fits. A recipe with a fixed number of steps takes the mean loss over the
subset's rows, so in the summed loss its ridge grows with those rows; a recipe with a fixed number of epochs
takes more steps on more rows, so its ridge in the summed loss is one number.
"""

from dataclasses import dataclass, replace

import numpy as np

from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics


@dataclass(frozen=True)
class Ridge:
    """R_S in 1/2 R_S |w|^2 beside the loss summed over the subset's rows.

    Attributes:
        per_row: the ridge a row, c tr(H) / (d N).
        reference_rows: rows that every subset counts as, or None where each counts its own.
    """

    per_row: float
    reference_rows: float | None

    def of_rows(self, rows: FloatArray) -> FloatArray:
        """Return R_S [m] for subsets with these numbers of train rows [m], the target's included."""
        if self.reference_rows is None:
            return self.per_row * rows
        return np.full(len(rows), self.per_row * self.reference_rows)

    def of_block(self, blocks: int) -> "Ridge":
        """Return the ridge for one of so many projection blocks alone (see `TaskStatistics.block`)."""
        return replace(self, per_row=self.per_row / blocks)


def ridge_of(config: SubsetEstimationConfig, statistics: TaskStatistics) -> Ridge:
    """Return the ridge for these settings and this store.

    `absolute` counts every subset as the target with half of the auxiliary rows, the mean over random subsets
    of half of the tasks: there, the two scalings with one c agree.

    Raises:
        GradientStoreError: all probes are zero, so that there is no curvature to count the ridge in.
    """
    unit = statistics.mean_curvature
    if unit == 0:
        raise GradientStoreError(
            "All probes of the gradient store are zero, so the ridge has no unit: "
            "expected a model that is not certain of every answer."
        )
    half = float(statistics.rows[-1] + statistics.rows[:-1].sum() / 2)
    return Ridge(config.ridge * unit, half if config.ridge_scaling == "absolute" else None)
