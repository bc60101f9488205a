"""One round of a meta-training whose sampler looks at the tasks again before each."""

from dataclasses import dataclass
from typing import Any

from gradsift.components.shared.parameters.sampling import MetaSampling


@dataclass(frozen=True)
class SamplingRound:
    """One round of a meta-training.

    Attributes:
        number: which one, from 0.
        steps_before: optimizer steps of the rounds before it.
        sampling: how rows are drawn.
    """

    number: int
    steps_before: int
    sampling: MetaSampling

    def to_json(self) -> dict[str, Any]:
        """Return the round as JSON values."""
        return {
            "number": self.number,
            "steps_before": self.steps_before,
            "sampling": self.sampling.changes(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SamplingRound":
        """Return the round that `to_json` described."""
        return cls(**{**values, "sampling": MetaSampling(**values["sampling"])})
