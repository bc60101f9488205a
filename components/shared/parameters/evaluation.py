"""What the chosen model is compared with, how often each comparison is trained, and how it is measured."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from gradsift.components.shared.parameters.settings import MAX_SEED, Settings, form_field


class ComparisonConfig(Settings):
    """How often each subset that is compared is fine-tuned on."""

    GROUP: ClassVar[str] = "evaluate"

    seeds: int = form_field(
        "evaluate_seeds",
        3,
        description="fine-tuning runs per comparison, with seeds counted up from the recipe's.",
        ge=1,
        le=100,
    )
    max_runs: int = Field(
        12,
        ge=1,
        le=10_000,
        description="largest number of fine-tuning runs altogether; seeds are cut to fit, down to one each.",
    )

    def seeds_for(self, subsets: int) -> int:
        """Return how many runs each of `subsets` different subsets gets."""
        return max(1, min(self.seeds, self.max_runs // subsets))


MAX_SIGN_KERNEL_PARAMETERS = 300_000_000
"""Largest base model whose kernels of signs are computed: they take whole gradients."""


class EvaluationConfig(Settings):
    """How the intervals of held-out metrics are made, and whether a kernel report is."""

    GROUP: ClassVar[str] = "evaluate"

    bootstrap: int = Field(2000, ge=1, le=10**6, description="bootstrap samples behind every interval.")
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="seed of the bootstrap and of the kernel report's rows."
    )
    kernel_rows: int = Field(
        0,
        ge=0,
        le=1000,
        description="validation rows of the kernel report, which says whether fine-tuning kept to first order, as "
        "the estimates assume; 200 suffice. 0 makes no such report.",
    )
    sign_kernel: bool = Field(
        False,
        description="whether the kernel report also has regressions with kernels of whole gradients and of "
        "their signs, as in Malladi et al. (2023), on at most 100 train and 100 validation rows of a target with "
        "labels. For encoders and causal models of at most 300M parameters.",
    )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if self.sign_kernel and not self.kernel_rows:
            yield (
                "Parameter evaluate_kernel_rows is 0: expected 1 or more where evaluate_sign_kernel is true, as "
                "kernels of signs are a part of the kernel report."
            )
