"""How often meta-training drew rows of each task, round by round: the model of `schedule.json`."""

from collections.abc import Mapping, Sequence
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


class EarlierSchedule(ResultFile):
    """`earlier_schedule.json`: what an earlier run learned, with which a meta-training begins.

    Attributes:
        origin: the registered model's version that it is of, in words.
        cosines: by source, the mean cosine of its gradient and the target's, as of that run's last round.
    """

    FILE: ClassVar[str] = "earlier_schedule.json"

    origin: str
    cosines: dict[str, Cosine]


class SamplingSchedule(ResultFile):
    """`schedule.json`: the rounds of a meta-training with a sampler.

    Attributes:
        sampler: name of the sampler.
        target: the target task.
        rounds: the rounds, in order.
        periods: the period of each task that is of one.
        earlier: what it began with; None where it began without an earlier schedule.
    """

    FILE: ClassVar[str] = "schedule.json"

    sampler: Sampler
    target: str
    rounds: list[RoundShares]
    periods: dict[str, str] = {}
    earlier: EarlierSchedule | None = Field(None, exclude_if=lambda earlier: earlier is None)

    @property
    def mean_cosines(self) -> dict[str, float]:
        """The mean of each source's cosines, as after the last round; none where the sampler measures none."""
        found = {task for each in self.rounds for task in each.cosines}
        measured = measured_cosines(self.earlier, self.rounds)
        return {task: fmean(each[task] for each in measured if task in each) for task in sorted(found)}


def measured_cosines(
    earlier: EarlierSchedule | None, rounds: Sequence[RoundShares]
) -> list[Mapping[str, float]]:
    """Return what the mean cosine of a source is taken over: each round, and the earlier schedule as one round."""
    before = [] if earlier is None else [earlier.cosines]
    return [*before, *(each.cosines for each in rounds)]
