"""What pairs of tasks do together beyond what each does alone."""

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.records.search_plan import synergy_tasks
from gradsift.components.shared.records.selection_results import Synergy
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger


def pair_synergy(ledger: EstimateLedger, scores: FloatArray) -> Synergy | None:
    """Return f({i, j}) - f({i}) - f({j}) + f({}) for all pairs of tasks; None for one task alone.

    Of many tasks it takes those with the highest scores (see `synergy_tasks`).

    Args:
        ledger: gives the losses.
        scores: [n], how much each task helps.
    """
    count = len(scores)
    if count < 2:
        return None
    tasks = np.sort(np.argsort(-scores, kind="stable")[: synergy_tasks(count)])
    first, second = np.triu_indices(len(tasks), 1)
    single = np.eye(count, dtype=bool)[tasks]
    pairs = single[first] | single[second]
    masks = np.vstack([np.zeros((1, count), bool), single, pairs])
    empty, alone, together = np.split(ledger.mean_losses(masks, "synergy"), [1, 1 + len(tasks)])
    values = np.zeros((len(tasks), len(tasks)))
    values[first, second] = together - alone[first] - alone[second] + empty
    return Synergy(tasks=[ledger.tasks[task] for task in tasks], values=(values + values.T).tolist())
