"""Settings of the calibration step."""

from dataclasses import dataclass

from gradsift.components.shared.errors import InputError

FEWEST_RUNS = 4
"""With the empty subset these are five losses; fewer cannot tell a line from noise."""


@dataclass(frozen=True)
class CalibrationConfig:
    """How many subsets are truly fine-tuned on.

    Attributes:
        runs: K, random subsets that are truly fine-tuned on, beside the target alone; 0 calibrates nothing,
            10 are recommended.
        seeds: fine-tunings of each subset, with seeds counted up from the recipe's; two or more show how
            much of a loss is chance.
        seed: seed of the random subsets.

    Raises:
        InputError: a value that no run could use.
    """

    runs: int = 0
    seeds: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runs and self.runs < FEWEST_RUNS:
            raise InputError(f"Parameter runs is {self.runs}: expected 0, or {FEWEST_RUNS} or more.")
        if self.seeds < 1:
            raise InputError(f"Parameter seeds is {self.seeds}: expected 1 or more.")
        if self.seed < 0:
            raise InputError(f"Parameter seed is {self.seed}: expected 0 or more.")
