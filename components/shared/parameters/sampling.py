"""How meta-training draws its rows from the tasks."""

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from gradsift.components.shared.parameters.settings import MAX_COUNT, Settings

Sampler = Literal["size", "derts"]


class MetaSampling(Settings):
    """From which tasks meta-training takes its rows, and how often it looks again.

    What has its default is left out of digests, so that they are those of a training by size.
    """

    GROUP: ClassVar[str] = "meta"

    sampler: Sampler = Field(
        "size",
        exclude_if=lambda sampler: sampler == "size",
        description="how often rows of each task are drawn: `size`, by `meta_sampling_exponent`; or `derts`, the "
        "target and `meta_max_tasks` sources whose gradients stand for those of the others.",
    )
    rounds: int = Field(
        4,
        ge=1,
        le=100,
        exclude_if=lambda rounds: rounds == 4,
        description="rounds of a meta-training with a sampler; before each, the sampler looks at the tasks' "
        "gradients again. Each round warms up and anneals its learning rate.",
    )
    probe_rows: int = Field(
        48,
        ge=2,
        le=MAX_COUNT,
        exclude_if=lambda rows: rows == 48,
        description="train rows per task whose gradients a sampler looks at.",
    )
    max_tasks: int = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        exclude_if=lambda tasks: tasks == 0,
        description="sources that a round of the sampler `derts` trains on, beside the target; `meta_epochs` "
        "counts the rows of so many sources of mean size.",
    )
    robust: bool = Field(
        True,
        exclude_if=lambda robust: robust,
        description="whether the sampler `derts` first leaves out the half of the sources whose labels the model "
        "learns worst: the largest loss of held-out rows over the entropy of the labels.",
    )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if self.sampler == "derts" and not self.max_tasks:
            yield (
                "Parameter meta_max_tasks is 0: expected 1 or more where meta_sampler is 'derts', the number of "
                "sources that a round trains on."
            )
        if self.sampler != "derts" and self.max_tasks:
            yield (
                f"Parameter meta_max_tasks is {self.max_tasks}: expected 0 where meta_sampler is {self.sampler!r}, "
                "as 'derts' alone chooses among sources."
            )

    def check_tasks(self, sources: int) -> Iterator[str]:
        """Yield a sentence where a round is to train on more sources than there are."""
        if self.max_tasks > sources:
            yield f"Parameter meta_max_tasks is {self.max_tasks}: expected at most the {sources} sources."

    def counted_rows(self, rows: int, tasks: int) -> int:
        """Return how many train rows an epoch has: those of the tasks that a round trains on, at their mean size.

        Args:
            rows: train rows of all tasks.
            tasks: number of tasks, the target included.
        """
        return math.ceil(rows * (self.max_tasks + 1) / tasks) if self.sampler == "derts" else rows
