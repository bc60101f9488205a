"""Settings of the evaluation."""

from dataclasses import dataclass

from gradsift.components.shared.errors import InputError


@dataclass(frozen=True)
class EvaluationConfig:
    """What the chosen model is compared with, and how often each is trained.

    Attributes:
        seeds: fine-tuning runs a comparison, with seeds counted up from the recipe's.
        max_runs: largest number of fine-tuning runs altogether; seeds are cut to fit, down to one each.
        bootstrap: bootstrap samples behind every interval.
        seed: seed of the bootstrap.
    """

    seeds: int = 3
    max_runs: int = 12
    bootstrap: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("seeds", "max_runs", "bootstrap"):
            if getattr(self, name) < 1:
                raise InputError(f"Parameter {name} is {getattr(self, name)}: expected 1 or more.")
        if self.seed < 0:
            raise InputError(f"Parameter seed is {self.seed}: expected 0 or more.")

    def seeds_for(self, subsets: int) -> int:
        """Return how many runs each of `subsets` different subsets gets."""
        return max(1, min(self.seeds, self.max_runs // subsets))
