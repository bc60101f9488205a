"""How often each task is chosen when what the estimates rest on is drawn again.

A resample draws the validation rows again, with replacement, and the projection blocks likewise. The weights of
a subset depend on neither, so its loss under a resample is a weighted mean of its row losses, plus how the mean
of the drawn blocks' losses differs from that of all. The choice is repeated on every resample.
"""

from collections.abc import Callable

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.subset_estimation.estimators.uncertainty import DECIMALS
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.selection.selection import LossSource
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, IntArray

RESAMPLES = 50
MIN_RESAMPLES = 10
MAX_TASKS = 60
MAX_SUBSETS = 2000
"""No further resample is begun once this many subsets were estimated in full detail."""
SUBSET_BATCH = 64


def selection_shares(
    ledger: EstimateLedger, choose: Callable[[LossSource], BoolArray], generator: np.random.Generator
) -> FloatArray | None:
    """Return for every task [n] the share of resamples on which `choose` takes it.

    None where there are more than `MAX_TASKS` tasks, or where fewer than `MIN_RESAMPLES` choices were made by
    the time `MAX_SUBSETS` were estimated.
    """
    if len(ledger.tasks) > MAX_TASKS:
        return None
    resampled = _ResampledLosses(ledger, generator)
    chosen: list[BoolArray] = []
    while len(chosen) < RESAMPLES and len(resampled) <= MAX_SUBSETS:
        resampled.current = len(chosen)
        chosen.append(choose(resampled))
    return np.mean(chosen, axis=0) if len(chosen) >= MIN_RESAMPLES else None


class _ResampledLosses:
    """Gives losses under the current resample; a subset's losses under all of them are kept."""

    def __init__(self, ledger: EstimateLedger, generator: np.random.Generator) -> None:
        statistics = ledger.estimator.statistics
        self.current = 0
        self._ledger = ledger
        self._rows = _drawn_shares(generator, len(statistics.validation_margin))
        self._blocks = _drawn_deviations(generator, statistics.blocks)
        self._losses: dict[bytes, FloatArray] = {}

    def __len__(self) -> int:
        return len(self._losses)

    def mean_losses(self, masks: BoolArray, source: str) -> FloatArray:
        """Return the losses [m] of subsets [m, n] under the current resample."""
        new = list({mask.tobytes(): mask for mask in masks if mask.tobytes() not in self._losses}.values())
        for start in range(0, len(new), SUBSET_BATCH):
            self._compute(np.stack(new[start : start + SUBSET_BATCH]))
        return np.array([self._losses[mask.tobytes()][self.current] for mask in masks])

    def promising(self, masks: BoolArray) -> IntArray:
        """Return the indices of those subsets [m, n] whose losses may be the lowest, whatever the resample."""
        return self._ledger.promising(masks)

    def _compute(self, masks: BoolArray) -> None:
        losses = self._ledger.losses(masks, "resampling")
        resampled = np.round(losses.rows @ self._rows.T + losses.blocks @ self._blocks.T, DECIMALS)
        self._losses |= {mask.tobytes(): loss for mask, loss in zip(masks, resampled, strict=True)}


def _drawn_shares(generator: np.random.Generator, count: int) -> FloatArray:
    """Return the share [RESAMPLES, count] that each of `count` things has of as many draws."""
    drawn: FloatArray = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
    return drawn


def _drawn_deviations(generator: np.random.Generator, blocks: int) -> FloatArray:
    """Return how much more than its share [RESAMPLES, blocks] each block has; no column for one block alone.

    Spread out by sqrt(B / (B - 1)), which a bootstrap of B values falls short of.
    """
    if blocks < 2:
        return np.zeros((RESAMPLES, 0))
    return (_drawn_shares(generator, blocks) - 1 / blocks) * np.sqrt(blocks / (blocks - 1))
