"""A coverage sampler after DERTS: training uses a few sources whose gradients represent those of the others.

Zhan and Anderson: "Data-Efficient and Robust Task Selection for Meta-Learning", CVPR Workshops 2024,
arXiv 2405.07083. As in the paper, facility location on task gradients chooses tasks before every round, and cluster
sizes are their weights. Unlike in the paper, gradients are taken at the current weights, without an inner loop; a
task is a data source; and the robust variant asks whether labels can be learned, because sources with a large
gradient were no noisier than others.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.records.sampling_schedule import RoundShares
from gradsift.components.shared.training.sampling.task_probe import TaskProbe


def derts(probe: TaskProbe, target: str, sampling: MetaSampling) -> RoundShares:
    """Return the shares of a round: the target and `max_tasks` sources, each by the number of tasks it represents.

    Args:
        probe: the tasks.
        target: the target task, which is always among those that are trained on.
        sampling: how many sources, and whether those whose labels are learned worst are left out first.
    """
    sources = [task for task in probe.tasks if task != target]
    adapted = {
        task: float(value)
        for task, value in zip(probe.tasks, probe.adapted, strict=True)
        if task != target and np.isfinite(value)
    }
    spare = len(sources) - sampling.max_tasks
    worst = sorted(adapted, key=lambda task: -adapted[task])
    dropped = worst[: min(len(adapted) // 2, spare)] if sampling.robust else []
    kept = [target, *(task for task in sources if task not in dropped)]
    gradient = probe.gradient[[probe.tasks.index(task) for task in kept]]
    chosen, nearest = facility_location(distances(gradient), [0], sampling.max_tasks)
    stands_for = {
        kept[own]: [task for task, other in zip(kept, nearest, strict=True) if other == own] for own in chosen
    }
    shares = {task: len(stands_for.get(task, [])) / len(kept) for task in probe.tasks}
    return RoundShares(shares=shares, adapted=adapted, dropped=dropped, stands_for=stands_for)


def distances(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the Euclidean distances [n, n] between points [n, m]."""
    products = points @ points.T
    squares = np.diag(products)
    gaps = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    np.fill_diagonal(gaps, 0)
    return gaps


def facility_location(
    gaps: npt.NDArray[np.float64], chosen: Sequence[int], count: int
) -> tuple[list[int], list[int]]:
    """Choose points, one after the other, so that every point is near a chosen one.

    Each next point makes F(S) = sum_t max_{i in S} (C - gap(t, i)) largest; F is monotone and submodular, so this
    greedy choice reaches at least 1 - 1/e of the largest gain.

    Args:
        gaps: distances between the points, [n, n].
        chosen: points that are chosen already, one or more.
        count: how many more are to be chosen.

    Returns:
        The chosen points in the order of their choice, and for each point [n] the nearest of them.
    """
    chosen = list(chosen)
    covered = gaps[:, chosen].min(axis=1)
    for _ in range(count):
        gain = np.maximum(covered[:, None] - gaps, 0).sum(axis=0)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        covered = np.minimum(covered, gaps[:, chosen[-1]])
    nearest = gaps[:, chosen].argmin(axis=1)
    # A copy of a chosen point counts for the first of them, but each chosen point counts for itself.
    nearest[chosen] = np.arange(len(chosen))
    return chosen, [chosen[place] for place in nearest]
