"""What pairs of tasks do together beyond what each does alone."""

import numpy as np

from gradsift.components.shared.records.selection_results import Synergy
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.margins import FloatArray

MAX_TASKS = 60
TASKS_OF_MANY = 30


def pair_synergy(ledger: EstimateLedger, scores: FloatArray) -> Synergy | None:
    """Return f({i, j}) - f({i}) - f({j}) + f({}) for all pairs of tasks; None for one task alone.

    Of more than `MAX_TASKS` tasks it takes the `TASKS_OF_MANY` with the highest scores.

    Args:
        ledger: gives the losses.
        scores: [n], how much each task helps.
    """
    count = len(scores)
    if count < 2:
        return None
    shown = count if count <= MAX_TASKS else TASKS_OF_MANY
    tasks = np.sort(np.argsort(-scores, kind="stable")[:shown])
    first, second = np.triu_indices(len(tasks), 1)
    single = np.eye(count, dtype=bool)[tasks]
    pairs = single[first] | single[second]
    masks = np.vstack([np.zeros((1, count), bool), single, pairs])
    empty, alone, together = np.split(ledger.mean_losses(masks, "synergy"), [1, 1 + len(tasks)])
    values = np.zeros((len(tasks), len(tasks)))
    values[first, second] = together - alone[first] - alone[second] + empty
    return Synergy(tasks=[ledger.tasks[task] for task in tasks], values=(values + values.T).tolist())
