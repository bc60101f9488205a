"""A schedule after L2S: rows of a past period are drawn by how far its gradients agree with the target's.

Wu and He: "Dynamic transfer learning with progressive meta-task scheduler", Frontiers in Big Data 5:1052972, 2022.
As there: which past tasks are learned from is itself learned, as training goes on. Unlike there: no pairs of tasks
and no inner loop, which were worse in pilots at half more time. The paper's own scheduler could not be verified.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from gradsift.components.shared.records.sampling_schedule import RoundShares
from gradsift.components.shared.training.sampling.task_probe import TaskProbe


def l2s(
    probe: TaskProbe, rows: Mapping[str, int], target: str, earlier: Sequence[Mapping[str, float]]
) -> RoundShares:
    """Return a round's shares: a source's by its rows times the positive part of its mean cosine with the target.

    The target keeps the share that it has by size. Where no source agrees, all shares are by size. Cosines are of
    gradients with an equal weight for each label: those of plain means follow the labels' shares among few rows.

    Args:
        probe: the tasks at the round's start.
        rows: number of train rows of each task.
        target: the target task.
        earlier: cosines of the rounds before, by source; a source may be missing, and one that is missing in all
            of them counts by its own cosine alone.
    """
    lengths = np.linalg.norm(probe.balanced, axis=1)
    unit = probe.balanced / np.where(lengths == 0, 1, lengths)[:, None]
    cosines = unit @ unit[probe.tasks.index(target)]
    now = {task: float(cosine) for task, cosine in zip(probe.tasks, cosines, strict=True) if task != target}
    rounds = [*earlier, now]
    scores = {task: np.mean([each[task] for each in rounds if task in each]) for task in now}
    weights = {task: rows[task] * max(0.0, float(score)) for task, score in scores.items()}
    total, agreed = sum(rows.values()), sum(weights.values())
    if agreed == 0:
        return RoundShares(shares={task: count / total for task, count in rows.items()}, cosines=now)
    others = 1 - rows[target] / total
    shares = {task: others * weight / agreed for task, weight in weights.items()} | {
        target: rows[target] / total
    }
    return RoundShares(shares={task: shares[task] for task in rows}, cosines=now)
