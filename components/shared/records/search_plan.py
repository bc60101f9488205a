"""How many losses of subsets a selection estimates, known from the number of sources before there is a store."""

import math
from dataclasses import dataclass

from gradsift.components.shared.parameters.estimation import EstimationSettings

SHORTLIST = 64
"""Candidates of a step of the search whose losses are simulated row by row."""
MAX_SWAPPED_IN = 20
"""Swaps bring in one of this many tasks, those whose addition has the lowest estimates."""
SCORE_SUBSETS, MIN_SCORE_SUBSETS = 32, 4
MAX_SCORE_ESTIMATES = 4000
"""Estimates that all scores of tasks together may take: of many tasks, each is the mean over fewer subsets."""
MAX_SYNERGY_TASKS, SYNERGY_TASKS_OF_MANY = 60, 30
"""Up to so many tasks all pairs are looked at; of more, those of the tasks with the highest scores."""


@dataclass(frozen=True)
class SearchPlan:
    """How many losses each part of a selection estimates.

    Attributes:
        random: of random subsets, with standard errors.
        stepwise: of the subsets that the stepwise search looks at.
        shortlisted: losses by the quadratic form, which leave all but a few candidates of a step out.
        scores: of the neighbours of random subsets, with standard errors.
        synergy: of pairs of tasks.
        possible: subsets that there are.
    """

    random: int
    stepwise: int
    shortlisted: int
    scores: int
    synergy: int
    possible: int

    @property
    def subsets(self) -> int:
        """Number of subsets whose loss is estimated."""
        return min(self.random + self.stepwise + self.scores + self.synergy, self.possible)


def score_subsets(tasks: int) -> int:
    """Return over how many random subsets the score of each task is a mean."""
    return min(SCORE_SUBSETS, max(MIN_SCORE_SUBSETS, MAX_SCORE_ESTIMATES // tasks))


def synergy_tasks(tasks: int) -> int:
    """Return of how many tasks all pairs are looked at."""
    return tasks if tasks <= MAX_SYNERGY_TASKS else SYNERGY_TASKS_OF_MANY


def search_plan(config: EstimationSettings, tasks: int) -> SearchPlan:
    """Return about how many losses a selection among so many auxiliary tasks estimates.

    The stepwise search is taken to add tasks up to the size of a random subset, with one round of drops and swaps
    there. Where it goes is known only to the store.
    """
    free = tasks - len(config.excluded_tasks)
    size = max(1, round(config.subset_fraction * free))
    shown = synergy_tasks(tasks)
    chosen = min(size, config.max_tasks or free)
    additions = [free - taken for taken in range(chosen + 1)]
    moves = [*additions, chosen, chosen * min(MAX_SWAPPED_IN, additions[-1])]
    most = SHORTLIST if config.estimator == "simulated" else max(moves)
    return SearchPlan(
        random=_distinct(math.comb(free, size), config.random_subsets),
        stepwise=sum(min(move, most) for move in moves),
        shortlisted=sum(move for move in moves if move > most),
        scores=min(score_subsets(tasks), config.random_subsets) * tasks,
        synergy=1 + shown + math.comb(shown, 2),
        possible=2**free,
    )


def _distinct(possible: int, draws: int) -> int:
    """Return how many different ones are expected among draws, with replacement, from as many possible ones."""
    if possible > 10**6 * draws:
        return draws
    return round(possible * (1 - (1 - 1 / possible) ** draws))
