"""Settings of promotion."""

import math
from dataclasses import dataclass

from gradsift.components.shared.errors import InputError


@dataclass(frozen=True)
class PromotionConfig:
    """Which registered model a run makes a version of, and what its champion has to be beaten by.

    Attributes:
        model_name: registered model in MLflow that the fine-tuned model becomes a version of, by the aliases
            `candidate` and `champion`; a run whose data and settings are those of a version that was judged
            ends early. Empty registers nothing.
        min_gain: what a candidate's accuracy on the target's test split must be above the champion's, on the
            same rows, to take its place; 0 lets an equal one, a negative number a slightly worse one.

    Raises:
        InputError: a value that no run could use.
    """

    model_name: str = ""
    min_gain: float = 0.0

    def __post_init__(self) -> None:
        if any(character in self.model_name for character in "/:'\"\n"):
            raise InputError(
                f"Parameter model_name is {self.model_name!r}: expected a name without '/', ':' and quotes."
            )
        if not -1 <= self.min_gain <= 1 or math.isnan(self.min_gain):
            raise InputError(f"Parameter min_gain is {self.min_gain}: expected -1 to 1, a share of the rows.")
