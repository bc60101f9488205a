"""How often meta-training drew rows of each task, round by round: the model of `schedule.json`."""

from typing import ClassVar

from gradsift.components.shared.parameters.sampling import Sampler
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile, Share


class RoundShares(Record):
    """What a sampler decided before a round.

    Attributes:
        shares: of the rows that the round draws, by task; together 1.
        adapted: by source with labels, the loss on held-out rows divided by the entropy of the labels.
        dropped: sources that were left out because this is large, the largest first.
        stands_for: by chosen task, the tasks whose gradients are nearest to its own, itself included.
    """

    shares: dict[str, Share]
    adapted: dict[str, NonNegative] = {}
    dropped: list[str] = []
    stands_for: dict[str, list[str]] = {}


class SamplingSchedule(ResultFile):
    """`schedule.json`: the rounds of a meta-training with a sampler.

    Attributes:
        sampler: name of the sampler.
        target: the target task.
        rounds: the rounds, in order.
    """

    FILE: ClassVar[str] = "schedule.json"

    sampler: Sampler
    target: str
    rounds: list[RoundShares]
