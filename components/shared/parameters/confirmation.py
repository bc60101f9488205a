"""How many subsets are truly fine-tuned on to confirm the choice."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from gradsift.components.shared.parameters.settings import Settings

MIN_RUNS = 3
"""None, all, and one that is chosen by its estimate."""


class ConfirmationConfig(Settings):
    """How many subsets are truly fine-tuned on to confirm the choice."""

    GROUP: ClassVar[str] = "confirm"

    runs: int = Field(
        6,
        ge=0,
        le=1000,
        description="subsets that are truly fine-tuned on before one of them is chosen by its true validation "
        "loss: none and all of the tasks, and in two rounds those that promise most; 0 leaves the choice to the "
        "estimates.",
    )

    @property
    def rounds(self) -> tuple[int, int]:
        """How many subsets each round takes by their estimates, beside none and all of the tasks."""
        chosen = max(self.runs - 2, 0)
        return chosen - chosen // 2, chosen // 2

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if 0 < self.runs < MIN_RUNS:
            yield f"Parameter confirm_runs is {self.runs}: expected 0, or {MIN_RUNS} or more."
