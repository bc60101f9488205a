"""The three ways to choose a subset by its estimated loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsift.components.subset_estimation.ledger import EstimateLedger
from gradsift.components.subset_estimation.margins import FloatArray
from gradsift.components.subset_estimation.task_statistics import BoolArray

Action = Literal["start", "add", "drop", "swap"]

FORWARD_STEPWISE = "forward_stepwise"


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


def forward_stepwise(ledger: EstimateLedger) -> list[Step]:
    """Return the path of the stepwise search; its last step holds the chosen subset.

    From the empty subset it takes the best addition while that lowers the estimated loss, then drops, then
    swaps, and starts over until nothing lowers it. Of equal candidates the first in task order is taken.
    """
    path = [Step("start", None, None, np.zeros(len(ledger.tasks), bool))]
    loss = ledger.estimate(path[-1].mask[None], FORWARD_STEPWISE)[0]
    steps_before_round = 0
    while len(path) > steps_before_round:
        steps_before_round = len(path)
        for neighbours in (_additions, _drops, _swaps):
            while candidates := list(neighbours(path[-1].mask)):
                losses = ledger.estimate(np.stack([step.mask for step in candidates]), FORWARD_STEPWISE)
                best = int(losses.argmin())
                if losses[best] >= loss:
                    break
                path.append(candidates[best])
                loss = losses[best]
    return path


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


def random_ensemble(masks: BoolArray, losses: FloatArray, top: int) -> BoolArray:
    """Return the tasks [n] with the `top` highest scores, or with a positive score where `top` is 0."""
    scores = random_ensemble_scores(masks, losses)
    return scores > 0 if top == 0 else highest(scores, top)


def best_of_m(masks: BoolArray, losses: FloatArray) -> BoolArray:
    """Return the sampled subset [n] with the lowest estimated loss, the first of equals."""
    best: BoolArray = masks[losses.argmin()]
    return best


def highest(scores: FloatArray, count: int) -> BoolArray:
    """Return the tasks [n] with the `count` highest scores, the first of equals."""
    chosen = np.zeros(len(scores), bool)
    chosen[np.argsort(-scores, kind="stable")[:count]] = True
    return chosen


def random_subsets(tasks: int, size: int, count: int, generator: np.random.Generator) -> BoolArray:
    """Return `count` subsets [count, tasks] drawn uniformly, with replacement, from those of one size."""
    return generator.random((count, tasks)).argsort(axis=1, kind="stable") < size


def _additions(mask: BoolArray) -> Iterator[Step]:
    for task in np.flatnonzero(~mask):
        yield Step("add", int(task), None, _changed(mask, task))


def _drops(mask: BoolArray) -> Iterator[Step]:
    for task in np.flatnonzero(mask):
        yield Step("drop", None, int(task), _changed(mask, task))


def _swaps(mask: BoolArray) -> Iterator[Step]:
    for removed in np.flatnonzero(mask):
        for added in np.flatnonzero(~mask):
            yield Step("swap", int(added), int(removed), _changed(mask, removed, added))


def _changed(mask: BoolArray, *tasks: np.intp) -> BoolArray:
    changed = mask.copy()
    changed[list(tasks)] ^= True
    return changed
