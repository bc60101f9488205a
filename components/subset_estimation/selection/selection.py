"""The three ways to choose a subset by its estimated loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.records.search_plan import MAX_SWAPPED_IN
from gradsift.components.subset_estimation.selection.constraints import Constraints
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray, IntArray

Action = Literal["start", "add", "drop", "swap"]

FORWARD_STEPWISE = "forward_stepwise"


class LossSource(Protocol):
    """Gives estimated losses of subsets."""

    def mean_losses(self, masks: BoolArray, source: str) -> FloatArray:
        """Return the estimated losses [m] of subsets [m, n]."""

    def promising(self, masks: BoolArray) -> IntArray:
        """Return the indices of those subsets [m, n] whose losses may be the lowest, in order."""


@dataclass(frozen=True)
class Step:
    """One step of the stepwise search.

    Attributes:
        action: what was done.
        added: index of the task that came in, or None.
        removed: index of the task that went out, or None.
        mask: [n], the subset after the step.
    """

    action: Action
    added: int | None
    removed: int | None
    mask: BoolArray


def forward_stepwise(
    losses: LossSource, constraints: Constraints, restart: BoolArray | None = None
) -> list[Step]:
    """Return the path of the stepwise search; its last step has the lowest estimate.

    From the required tasks alone it takes the best addition while that lowers the estimated loss, then drops,
    then swaps, and starts over until nothing lowers it. Of equal candidates the first in task order is taken.

    Where tasks help only together, that can end early: if the subset `restart` [n] has a lower estimate than the
    end, the path is that of a search from there.
    """
    path = _search(losses, constraints, constraints.required)
    if restart is not None:
        ended, other = losses.mean_losses(np.stack([path[-1].mask, restart]), FORWARD_STEPWISE)
        if other < ended:
            return _search(losses, constraints, restart)
    return path


def search_nearby(losses: LossSource, constraints: Constraints, start: BoolArray) -> BoolArray:
    """Return the subset [n] that additions and drops alone lead to from `start` [n]."""
    return _search(losses, constraints, start, (_additions, _drops))[-1].mask


def smallest_within_one_standard_error(path: list[Step], ledger: EstimateLedger) -> BoolArray:
    """Return the smallest subset [n] on the path whose estimate is as good as the last one's within its error.

    That is within one standard error of the difference, in which the errors that both share cancel. Of equally
    large subsets it is the one with the lowest estimate.
    """
    masks = _masks(path)
    losses = ledger.losses(masks, FORWARD_STEPWISE)
    to_last = np.eye(len(path)) - np.eye(len(path))[-1]
    excess = losses.combine(to_last).estimates()
    as_good = np.flatnonzero(excess.loss <= excess.standard_error)
    smallest: BoolArray = masks[min(as_good, key=lambda step: (masks[step].sum(), excess.loss[step]))]
    return smallest


def random_ensemble_scores(masks: BoolArray, losses: FloatArray) -> FloatArray:
    """Return the paper's score of every task [n], its T_i turned so that positive helps.

    T_i is the mean estimated loss of the sampled subsets that hold task i; the score is the mean over all
    sampled subsets minus T_i. A task in no sampled subset scores 0.

    Args:
        masks: [m, n], the sampled subsets.
        losses: [m], their estimated losses.
    """
    holders = masks.sum(axis=0)
    means = np.divide(losses @ masks, holders, out=np.full(masks.shape[1], losses.mean()), where=holders > 0)
    return losses.mean() - means


def random_ensemble(
    masks: BoolArray, losses: FloatArray, constraints: Constraints, top: int = 0, threshold: float = 0.0
) -> BoolArray:
    """Return the tasks [n] with the `top` highest scores, or with a score above `threshold` where `top` is 0."""
    scores = random_ensemble_scores(masks, losses)
    if top:
        return constraints.highest(scores, top)
    return constraints.only(scores > threshold).highest(scores, len(scores))


def best_of_m(masks: BoolArray, losses: FloatArray) -> BoolArray:
    """Return the sampled subset [n] with the lowest estimated loss, the first of equals."""
    best: BoolArray = masks[losses.argmin()]
    return best


def _additions(losses: LossSource, constraints: Constraints, mask: BoolArray) -> list[Step]:
    return _fitting(constraints, [_addition(mask, task) for task in _outside(constraints, mask)])


def _drops(losses: LossSource, constraints: Constraints, mask: BoolArray) -> list[Step]:
    return [Step("drop", None, task, _changed(mask, task)) for task in _droppable(constraints, mask)]


def _swaps(losses: LossSource, constraints: Constraints, mask: BoolArray) -> list[Step]:
    additions = [_addition(mask, task) for task in _outside(constraints, mask)]
    if len(additions) > MAX_SWAPPED_IN:
        order = losses.mean_losses(_masks(additions), FORWARD_STEPWISE).argsort(kind="stable")
        additions = [additions[index] for index in sorted(order[:MAX_SWAPPED_IN])]
    swaps = [
        Step("swap", addition.added, removed, _changed(addition.mask, removed))
        for removed in _droppable(constraints, mask)
        for addition in additions
    ]
    return _fitting(constraints, swaps)


Moves = Callable[[LossSource, Constraints, BoolArray], list[Step]]
ALL_MOVES: tuple[Moves, ...] = (_additions, _drops, _swaps)


def _search(
    losses: LossSource, constraints: Constraints, start: BoolArray, kinds: tuple[Moves, ...] = ALL_MOVES
) -> list[Step]:
    """Take the best move of the first kind while that lowers the estimated loss, then of the next, and start over.

    Until nothing lowers it. Of equal moves the first in task order is taken.
    """
    path = [Step("start", None, None, start)]
    lowest = losses.mean_losses(start[None], FORWARD_STEPWISE)[0]
    steps_before_round = 0
    while len(path) > steps_before_round:
        steps_before_round = len(path)
        for moves in kinds:
            while candidates := _promising(losses, moves(losses, constraints, path[-1].mask)):
                estimates = losses.mean_losses(_masks(candidates), FORWARD_STEPWISE)
                best = int(estimates.argmin())
                if estimates[best] >= lowest:
                    break
                path.append(candidates[best])
                lowest = estimates[best]
    return path


def _promising(losses: LossSource, steps: list[Step]) -> list[Step]:
    return [steps[index] for index in losses.promising(_masks(steps))] if steps else []


def _outside(constraints: Constraints, mask: BoolArray) -> list[int]:
    return [int(task) for task in np.flatnonzero(~(mask | constraints.excluded))]


def _droppable(constraints: Constraints, mask: BoolArray) -> list[int]:
    return [int(task) for task in np.flatnonzero(mask & ~constraints.required)]


def _addition(mask: BoolArray, task: int) -> Step:
    return Step("add", task, None, _changed(mask, task))


def _changed(mask: BoolArray, task: int) -> BoolArray:
    changed = mask.copy()
    changed[task] ^= True
    return changed


def _fitting(constraints: Constraints, steps: list[Step]) -> list[Step]:
    if not steps:
        return []
    return [step for step, fits in zip(steps, constraints.fit(_masks(steps)), strict=True) if fits]


def _masks(steps: list[Step]) -> BoolArray:
    return np.stack([step.mask for step in steps])
