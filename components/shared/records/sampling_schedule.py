"""How often meta-training drew rows of each task, round by round: the model of `schedule.json`."""

from statistics import fmean
from typing import Annotated, ClassVar

from pydantic import Field, FiniteFloat

from gradsift.components.shared.parameters.sampling import Sampler
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile, Share

Cosine = Annotated[FiniteFloat, Field(ge=-1.001, le=1.001)]


class RoundShares(Record):
    """What a sampler decided before a round.

    Attributes:
        shares: of the rows that the round draws, by task; together 1.
        adapted: by source with labels, the loss on held-out rows divided by the entropy of the labels.
        dropped: sources that were left out because this is large, the largest first.
        cosines: by source, the cosine of its gradient and the target's.
        stands_for: by chosen task, the tasks whose gradients are nearest to its own, itself included.
    """

    shares: dict[str, Share]
    adapted: dict[str, NonNegative] = {}
    dropped: list[str] = []
    stands_for: dict[str, list[str]] = {}
    cosines: dict[str, Cosine] = {}


class SamplingSchedule(ResultFile):
    """`schedule.json`: the rounds of a meta-training with a sampler.

    Attributes:
        sampler: name of the sampler.
        target: the target task.
        rounds: the rounds, in order.
        periods: the period of each task that is of one.
    """

    FILE: ClassVar[str] = "schedule.json"

    sampler: Sampler
    target: str
    rounds: list[RoundShares]
    periods: dict[str, str] = {}

    @property
    def mean_cosines(self) -> dict[str, float]:
        """Return the mean over the rounds of each source's cosine; none where the sampler measures none."""
        found = {task for each in self.rounds for task in each.cosines}
        return {
            task: fmean(each.cosines[task] for each in self.rounds if task in each.cosines)
            for task in sorted(found)
        }
