"""The subsets that every selection method and baseline takes, from one ledger of estimates."""

from dataclasses import dataclass

import numpy as np

from gradsift.components.subset_estimation.baselines import BASELINES, random_tasks
from gradsift.components.subset_estimation.config import SubsetEstimationConfig
from gradsift.components.subset_estimation.ledger import EstimateLedger
from gradsift.components.subset_estimation.selection import (
    Step,
    best_of_m,
    forward_stepwise,
    random_ensemble,
    random_subsets,
)
from gradsift.components.subset_estimation.task_scores import task_scores
from gradsift.components.subset_estimation.task_statistics import BoolArray
from gradsift.components.subset_estimation.uncertainty import Estimates


@dataclass(frozen=True)
class Choices:
    """What was chosen, and what else could have been.

    Attributes:
        methods: the subset [n] of every selection method and baseline, by name.
        path: the steps of the stepwise search.
        random: [R, n], the draws of the random baseline, the first of which is its entry in `methods`.
        scores: how much each task [n] lowers the estimated loss, with its standard error.
    """

    methods: dict[str, BoolArray]
    path: list[Step]
    random: BoolArray
    scores: Estimates


def make_choices(config: SubsetEstimationConfig, ledger: EstimateLedger) -> Choices:
    """Run every selection method, then the baselines at the size of the configured method's subset."""
    path = forward_stepwise(ledger)
    sampled = _sampled_subsets(config, len(ledger.tasks))
    losses = ledger.estimate(sampled, "random_subsets")
    methods = {
        "forward_stepwise": path[-1].mask,
        "random_ensemble": random_ensemble(sampled, losses, config.ensemble_top),
        "best_of_m": best_of_m(sampled, losses),
    }
    chosen, statistics = methods[config.method], ledger.estimator.statistics
    generator = np.random.default_rng([config.seed, 1])
    methods |= {name: choose(statistics, chosen, generator) for name, choose in BASELINES.items()}
    more = [random_tasks(statistics, chosen, generator) for _ in range(config.random_baseline_draws - 1)]
    random = np.stack([methods["random"], *more])
    for name, mask in methods.items():
        ledger.estimate(mask[None], name)
    ledger.estimate(random, "random")
    return Choices(methods, path, random, task_scores(ledger, sampled))


def _sampled_subsets(config: SubsetEstimationConfig, tasks: int) -> BoolArray:
    size = max(1, round(config.subset_fraction * tasks))
    return random_subsets(tasks, size, config.random_subsets, np.random.default_rng([config.seed, 0]))
