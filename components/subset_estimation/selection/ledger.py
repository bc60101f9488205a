"""Every subset estimated so far: each is computed once, and all are written down with who asked first."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Never

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.subset_estimation.estimators.loss_estimator import LossEstimator
from gradsift.components.subset_estimation.estimators.uncertainty import Losses
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, IntArray
from gradsift.components.subset_estimation.statistics.threads import slices

SUBSET_BATCH = 512
SCHEMA = pa.schema(
    [
        ("subset", pa.list_(pa.string())),
        ("source", pa.string()),
        ("estimator", pa.string()),
        ("estimated_loss", pa.float64()),
        ("standard_error", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Estimate:
    """The estimate of one subset [n], in nats, and who asked for it first.

    The standard error is None where nobody asked for it, such as for a neighbour that a search passed by.
    """

    mask: BoolArray
    source: str
    loss: float
    standard_error: float | None


class EstimateLedger:
    """Gives estimates of subsets and remembers them in the order in which they were asked for."""

    def __init__(self, estimator: LossEstimator, progress: "tqdm[Never]") -> None:
        self.estimator = estimator
        self.tasks = list(estimator.statistics.tasks)
        self._estimates: dict[bytes, Estimate] = {}
        self._progress = progress

    def __len__(self) -> int:
        return len(self._estimates)

    def estimate(self, masks: BoolArray, source: str) -> FloatArray:
        """Return the estimated losses [m] of subsets [m, n]; `source` is noted for those that are new."""
        lacking = [mask for mask in _distinct(masks) if self._standard_error(mask) is None]
        for part in slices(len(lacking), SUBSET_BATCH):
            self.losses(np.stack(lacking[part]), source)
        return self._known_losses(masks)

    def mean_losses(self, masks: BoolArray, source: str) -> FloatArray:
        """Return the same losses as `estimate`, without the cost of their standard errors."""
        new = [mask for mask in _distinct(masks) if mask.tobytes() not in self._estimates]
        for part in slices(len(new), SUBSET_BATCH):
            some = np.stack(new[part])
            for mask, loss in zip(some, self.estimator.mean_losses(some), strict=True):
                self._estimates[mask.tobytes()] = Estimate(mask, source, float(loss), None)
            self._progress.update(len(some))
        return self._known_losses(masks)

    def promising(self, masks: BoolArray) -> IntArray:
        """Return the indices of those subsets [m, n] whose losses may be the lowest, in order."""
        return self.estimator.promising(masks)

    def losses(self, masks: BoolArray, source: str) -> Losses:
        """Compute losses of a few subsets [m, n] in full detail, for differences and means of them."""
        losses = self.estimator.losses(masks)
        estimates = losses.estimates()
        for mask, loss, error in zip(masks, estimates.loss, estimates.standard_error, strict=True):
            new = Estimate(mask, source, float(loss), float(error))
            first = self._estimates.setdefault(mask.tobytes(), new)
            if first.standard_error is None:
                self._estimates[mask.tobytes()] = replace(first, standard_error=float(error))
        self._progress.update(len(masks))
        return losses

    def known(self, mask: BoolArray) -> Estimate:
        """Return the estimate of a subset [n] that was asked for before, with its standard error."""
        estimate = self._estimates[mask.tobytes()]
        if estimate.standard_error is None:
            self.losses(mask[None], estimate.source)
        return self._estimates[mask.tobytes()]

    def by_loss(self) -> list[BoolArray]:
        """Return all subsets [n] so far, the one with the lowest estimate first."""
        return [each.mask for each in sorted(self._estimates.values(), key=lambda each: each.loss)]

    def names(self, mask: BoolArray) -> list[str]:
        """Return the names of the tasks in a subset [n]."""
        return [task for task, member in zip(self.tasks, mask, strict=True) if member]

    def write(self, path: Path, estimator: str) -> None:
        """Write all estimates as a Parquet file, one row a subset; errors that nobody asked for are null."""
        estimates = list(self._estimates.values())
        columns = {
            "subset": [self.names(estimate.mask) for estimate in estimates],
            "source": [estimate.source for estimate in estimates],
            "estimator": [estimator] * len(estimates),
            "estimated_loss": [estimate.loss for estimate in estimates],
            "standard_error": [estimate.standard_error for estimate in estimates],
        }
        with atomic_file(path) as temporary:
            pq.write_table(pa.table(columns, SCHEMA), temporary)

    def _standard_error(self, mask: BoolArray) -> float | None:
        estimate = self._estimates.get(mask.tobytes())
        return None if estimate is None else estimate.standard_error

    def _known_losses(self, masks: BoolArray) -> FloatArray:
        return np.array([self._estimates[mask.tobytes()].loss for mask in masks])


def _distinct(masks: BoolArray) -> list[BoolArray]:
    return list({mask.tobytes(): mask for mask in masks}.values())
