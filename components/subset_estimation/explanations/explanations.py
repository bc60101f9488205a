"""What explains the estimates: how pairs of tasks act together, a map of the tasks, simple stand-ins."""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.selection_results import Surrogate, Synergy, TaskMap
from gradsift.components.subset_estimation.explanations.surrogates import fit_surrogates
from gradsift.components.subset_estimation.explanations.synergy import pair_synergy
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
    """

    synergy: Synergy | None
    task_map: TaskMap
    surrogates: list[Surrogate]


def explain(config: SubsetEstimationConfig, ledger: EstimateLedger, choices: Choices) -> Explanations:
    """Return the explanations of all estimates; synergies may ask for a few more."""
    return Explanations(
        synergy=pair_synergy(ledger, choices.scores.loss),
        task_map=draw_task_map(ledger.estimator.statistics),
        surrogates=fit_surrogates(
            ledger.tasks,
            choices.sampled,
            ledger.estimate(choices.sampled, "random_subsets"),
            np.random.default_rng([config.seed, 3]),
        ),
    )
