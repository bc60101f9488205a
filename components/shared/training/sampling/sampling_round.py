"""One round of a meta-training whose sampler looks at the tasks again before each."""

from dataclasses import dataclass
from typing import Any

from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.records.sampling_schedule import EarlierSchedule


@dataclass(frozen=True)
class SamplingRound:
    """One round of a meta-training.

    Attributes:
        number: which one, from 0.
        steps_before: optimizer steps of the rounds before it.
        sampling: how rows are drawn.
        earlier: what an earlier run's sampler learned; None begins without.
    """

    number: int
    steps_before: int
    sampling: MetaSampling
    earlier: EarlierSchedule | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the round as JSON values."""
        return {
            "number": self.number,
            "steps_before": self.steps_before,
            "sampling": self.sampling.changes(),
            "earlier": None if self.earlier is None else self.earlier.model_dump(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SamplingRound":
        """Return the round that `to_json` described."""
        earlier = None if values["earlier"] is None else EarlierSchedule(**values["earlier"])
        return cls(**{**values, "sampling": MetaSampling(**values["sampling"]), "earlier": earlier})
