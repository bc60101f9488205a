"""What explains the estimates: pairs of tasks, a map of them, each one's health, simple stand-ins."""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.selection_results import (
    Surrogate,
    Synergy,
    TaskHealth,
    TaskMap,
)
from gradsift.components.subset_estimation.estimators.ridge import ridge_of
from gradsift.components.subset_estimation.explanations.surrogates import fit_surrogates
from gradsift.components.subset_estimation.explanations.synergy import pair_synergy
from gradsift.components.subset_estimation.explanations.task_health import task_health
from gradsift.components.subset_estimation.explanations.task_map import draw_task_map
from gradsift.components.subset_estimation.selection.choices import Choices
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger


@dataclass(frozen=True)
class Explanations:
    """The explanations, as the record holds them.

    Attributes:
        synergy: of pairs of tasks; None for one task alone.
        task_map: the tasks in a plane.
        surrogates: simple predictors of the estimates of random subsets.
        health: of every auxiliary task; empty where the prepared data is not at hand.
    """

    synergy: Synergy | None
    task_map: TaskMap
    surrogates: list[Surrogate]
    health: list[TaskHealth]


def explain(
    config: SubsetEstimationConfig,
    ledger: EstimateLedger,
    choices: Choices,
    store: GradientStore,
    data: PreparedData | None,
) -> Explanations:
    """Return the explanations of all estimates; synergies may ask for a few more.

    Args:
        config: the settings.
        ledger: the estimates.
        choices: what was chosen by them.
        store: the gradient store that they are made of.
        data: the prepared data, where it is at hand.
    """
    statistics = ledger.estimator.statistics
    return Explanations(
        synergy=pair_synergy(ledger, choices.scores.loss),
        task_map=draw_task_map(statistics),
        surrogates=fit_surrogates(
            ledger.tasks,
            choices.sampled,
            ledger.estimate(choices.sampled, "random_subsets"),
            np.random.default_rng([config.seed, 3]),
        ),
        health=task_health(store, statistics, ridge_of(config, statistics), data) if data else [],
    )
