"""Simple functions of which tasks are in that stand for the estimates, with how well they do so."""

from typing import Literal

import numpy as np
from scipy.stats import spearmanr
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.records.selection_results import Surrogate
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

Kind = Literal["linear", "rbf"]

MIN_SUBSETS = 12
MAX_SUBSETS = 2000
RIDGE = 0.1


def fit_surrogates(
    tasks: list[str], masks: BoolArray, losses: FloatArray, generator: np.random.Generator
) -> list[Surrogate]:
    """Return a linear and an RBF-kernel ridge regression of the losses on the masks.

    Each is fitted to two thirds of the distinct subsets, of which the first `MAX_SUBSETS` are used, and tested on
    the others. None is fitted to fewer than `MIN_SUBSETS`, or where all have the same loss. The kernel
    exp(-|s - t|^2 / n) and its ridge are those of kernel surrogate models (arXiv 2602.03783).

    Args:
        tasks: names of the n tasks.
        masks: [m, n], subsets.
        losses: [m], their estimated losses in nats.
        generator: draws the two thirds.
    """
    distinct = np.sort(np.unique(masks, axis=0, return_index=True)[1])[:MAX_SUBSETS]
    if len(distinct) < MIN_SUBSETS or np.ptp(losses[distinct]) == 0:
        return []
    order = generator.permutation(distinct)
    held_out, fitted = np.split(order, [len(order) // 3])
    center = losses[fitted].mean()
    models: dict[Kind, Ridge | KernelRidge] = {
        "linear": Ridge(RIDGE),
        "rbf": KernelRidge(alpha=RIDGE, kernel="rbf", gamma=1 / len(tasks)),
    }
    found = []
    for kind, model in models.items():
        model.fit(masks[fitted].astype(float), losses[fitted] - center)
        predicted = model.predict(masks[held_out].astype(float)) + center
        found.append(
            Surrogate(
                kind=kind,
                held_out_r2=r2_score(losses[held_out], predicted),
                held_out_spearman=_spearman(losses[held_out], predicted),
                coefficients=dict(zip(tasks, model.coef_, strict=True)) if kind == "linear" else {},
                subsets=len(order),
            )
        )
    return found


def _spearman(left: FloatArray, right: FloatArray) -> float | None:
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(spearmanr(left, right).statistic)
