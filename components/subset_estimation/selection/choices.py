"""The subsets that every selection method and baseline takes, from one ledger of estimates."""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.ridge import ridge_of
from gradsift.components.subset_estimation.estimators.uncertainty import Estimates
from gradsift.components.subset_estimation.selection.baselines import BASELINES, BaselineInputs, random_tasks
from gradsift.components.subset_estimation.selection.constraints import Constraints, constraints_of
from gradsift.components.subset_estimation.selection.gaps import EstimatedGaps, LimitedLosses
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.selection.resampling import MAX_SUBSETS, selection_shares
from gradsift.components.subset_estimation.selection.selection import (
    LossSource,
    Step,
    best_of_m,
    forward_stepwise,
    random_ensemble,
    search_nearby,
    smallest_within_one_standard_error,
)
from gradsift.components.subset_estimation.selection.task_scores import task_scores
from gradsift.components.subset_estimation.selection.ties import near_ties
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray


@dataclass(frozen=True)
class Choices:
    """What was chosen, and what else could have been.

    Attributes:
        methods: the subset [n] of every selection method and baseline, by name.
        path: the steps of the stepwise search.
        ties: subsets [n] that may be as good as the chosen one, by name: another method's, or `step 3` of the
            path.
        sampled: [m, n], the random subsets behind random ensemble and best of m.
        random: [R, n], the draws of the random baseline, the first of which is its entry in `methods`.
        scores: how much each task [n] lowers the estimated loss, with its standard error.
        shares: how often the method takes each task [n] under resampling; None where that costs too much.
    """

    methods: dict[str, BoolArray]
    path: list[Step]
    ties: dict[str, BoolArray]
    sampled: BoolArray
    random: BoolArray
    scores: Estimates
    shares: FloatArray | None


@dataclass(frozen=True)
class Search:
    """What the selection methods look through.

    Attributes:
        constraints: what a choice keeps to.
        sampled: [m, n], random subsets.
        losses: [m], their estimates.
        best: the one of them [n] with the lowest estimate that keeps to the limit on gaps.
        path: the steps of the stepwise search.
    """

    constraints: Constraints
    sampled: BoolArray
    losses: FloatArray
    best: BoolArray
    path: list[Step]


def search(
    config: SubsetEstimationConfig, ledger: EstimateLedger, gaps: EstimatedGaps | None = None
) -> Search:
    """Estimate random subsets, and search stepwise for the best one.

    Args:
        config: the settings.
        ledger: the estimates.
        gaps: a limit on the estimated gap; None for none.

    Raises:
        InputError: a required or excluded task is unknown, required tasks are over the budget, or no subset keeps
            to the limit on gaps.
    """
    constraints = constraints_of(config, ledger.estimator.statistics)
    sampled = _sampled_subsets(config, constraints)
    losses = ledger.estimate(sampled, "random_subsets")
    source = _within(gaps, ledger)
    best = best_of_m(sampled, source.mean_losses(sampled, "random_subsets"))
    path = forward_stepwise(source, constraints, best)
    if gaps is not None:
        gaps.check(path[-1].mask)
    return Search(constraints, sampled, losses, best, path)


def make_choices(
    config: SubsetEstimationConfig,
    ledger: EstimateLedger,
    store: GradientStore,
    gaps: EstimatedGaps | None = None,
) -> Choices:
    """Run every selection method, then the baselines at the size of the configured method's subset.

    Args:
        config: the settings.
        ledger: the estimates.
        store: the gradient store that they are made of.
        gaps: a limit on the estimated gap, which baselines and random ensemble do not keep to; None for none.

    Raises:
        InputError: as `search` does.
    """
    statistics = ledger.estimator.statistics
    found = search(config, ledger, gaps)
    constraints, sampled, path = found.constraints, found.sampled, found.path
    methods = {
        "forward_stepwise": _stopped(config, path, ledger, gaps),
        "random_ensemble": _ensemble(config, constraints, sampled, found.losses),
        "best_of_m": found.best,
    }
    inputs = BaselineInputs(
        statistics=statistics,
        store=store,
        ridge=ridge_of(config, statistics),
        constraints=constraints,
        selected=methods[config.method],
        generator=np.random.default_rng([config.seed, 1]),
    )
    baselines = {name: choose(inputs) for name, choose in BASELINES.items()}
    methods |= {name: mask for name, mask in baselines.items() if mask is not None}
    more = [random_tasks(inputs) for _ in range(config.random_baseline_draws - 1)]
    random = np.stack([methods["random"], *more])
    for name, mask in methods.items():
        ledger.estimate(mask[None], name)
    ledger.estimate(random, "random")
    return Choices(
        methods=methods,
        path=path,
        ties=near_ties(ledger, inputs.selected, _permitted(methods | _path_subsets(path), gaps)),
        sampled=sampled,
        random=random,
        scores=task_scores(ledger, sampled),
        shares=_shares(config, ledger, constraints, path, sampled, gaps),
    )


def _sampled_subsets(config: SubsetEstimationConfig, constraints: Constraints) -> BoolArray:
    size = max(1, round(config.subset_fraction * (~constraints.excluded).sum()))
    return constraints.random_subsets(size, config.random_subsets, np.random.default_rng([config.seed, 0]))


def _within(gaps: EstimatedGaps | None, losses: LossSource) -> LossSource:
    return losses if gaps is None or not gaps.limit else LimitedLosses(losses, gaps)


def _permitted(subsets: dict[str, BoolArray], gaps: EstimatedGaps | None) -> dict[str, BoolArray]:
    return {name: mask for name, mask in subsets.items() if gaps is None or gaps.permit(mask[None])[0]}


def _stopped(
    config: SubsetEstimationConfig, path: list[Step], ledger: EstimateLedger, gaps: EstimatedGaps | None
) -> BoolArray:
    if config.stopping == "one_standard_error":
        permitted = [step for step in path if gaps is None or gaps.permit(step.mask[None])[0]]
        return smallest_within_one_standard_error(permitted, ledger)
    return path[-1].mask


def _ensemble(
    config: SubsetEstimationConfig, constraints: Constraints, sampled: BoolArray, losses: FloatArray
) -> BoolArray:
    return random_ensemble(sampled, losses, constraints, config.ensemble_top, config.ensemble_threshold)


def _path_subsets(path: list[Step]) -> dict[str, BoolArray]:
    return {f"step {number}": step.mask for number, step in enumerate(path)}


def _shares(
    config: SubsetEstimationConfig,
    ledger: EstimateLedger,
    constraints: Constraints,
    path: list[Step],
    sampled: BoolArray,
    gaps: EstimatedGaps | None,
) -> FloatArray | None:
    """Return how often the configured method takes each task [n].

    A stepwise search continues from where it ended, by additions and drops: on 12 and on 25 made-up
    tasks that gave the shares of the whole search within .05, from a third of the subsets.
    """

    def choose(resampled: LossSource) -> BoolArray:
        losses = _within(gaps, resampled)
        if config.method == "forward_stepwise":
            return search_nearby(losses, constraints, path[-1].mask)
        estimates = losses.mean_losses(sampled, config.method)
        if config.method == "random_ensemble":
            return _ensemble(config, constraints, sampled, estimates)
        return best_of_m(sampled, estimates)

    if config.method != "forward_stepwise" and len(sampled) > MAX_SUBSETS:
        return None
    return selection_shares(ledger, choose, np.random.default_rng([config.seed, 2]))
