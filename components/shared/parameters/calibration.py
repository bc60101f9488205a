"""How many subsets are truly fine-tuned on before the choice."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from gradsift.components.shared.parameters.settings import MAX_SEED, Settings, form_field

MIN_RUNS = 4
"""With none and all of the tasks these are six losses; fewer cannot tell a line from noise."""


def random_subset_count(tasks: int) -> int:
    """Return how many subsets that many auxiliary tasks have beside none and all of them."""
    return int(2**tasks - 2)


class CalibrationConfig(Settings):
    """How many subsets are truly fine-tuned on before the choice."""

    GROUP: ClassVar[str] = "calibrate"

    runs: int = form_field(
        "calibrate_runs",
        0,
        description="K, random subsets that are truly fine-tuned on, beside none and all of the "
        "tasks; 0 calibrates nothing, 10 are recommended.",
        ge=0,
        le=10_000,
    )
    seeds: int = Field(
        1,
        ge=1,
        le=100,
        description="fine-tunings of each subset, with seeds counted up from the recipe's; two or more show "
        "how much of a loss is chance.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of the random subsets.")

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if 0 < self.runs < MIN_RUNS:
            yield f"Parameter calibrate_runs is {self.runs}: expected 0, or {MIN_RUNS} or more."
