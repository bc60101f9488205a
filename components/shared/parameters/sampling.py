"""How meta-training draws its rows from the tasks."""

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from gradsift.components.shared.parameters.settings import MAX_COUNT, Settings

Sampler = Literal["size", "recency", "derts", "l2s"]
OVER_TIME: tuple[Sampler, ...] = ("recency", "l2s")
"""Samplers that draw from past periods."""


class MetaSampling(Settings):
    """How often meta-training draws rows of each task, and how often it decides this again.

    Digests leave out fields with their defaults. So without a sampler they are the same as before there were any.
    """

    GROUP: ClassVar[str] = "meta"

    sampler: Sampler = Field(
        "size",
        exclude_if=lambda sampler: sampler == "size",
        description="decides how often rows of each task are drawn: `size` draws by the tasks' sizes and "
        "`meta_sampling_exponent`; `recency` draws older periods less often; `derts` draws from the target and "
        "`meta_max_tasks` sources whose gradients represent those of the others; `l2s` draws sources by how far "
        "their gradients agree with the target's.",
    )
    rounds: int = Field(
        4,
        ge=1,
        le=100,
        exclude_if=lambda rounds: rounds == 4,
        description="number of rounds of meta-training with the sampler `derts` or `l2s`. Before each, the sampler "
        "looks at the tasks' gradients again. Each round warms up and anneals its learning rate.",
    )
    probe_rows: int = Field(
        48,
        ge=2,
        le=MAX_COUNT,
        exclude_if=lambda rows: rows == 48,
        description="number of train rows per task whose gradients a sampler looks at.",
    )
    max_tasks: int = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        exclude_if=lambda tasks: tasks == 0,
        description="number of sources that a round of the sampler `derts` trains on, besides the target. With "
        "`meta_epochs`, an epoch has as many rows as the target and these sources, all at the tasks' mean size.",
    )
    robust: bool = Field(
        True,
        exclude_if=lambda robust: robust,
        description="whether the sampler `derts` first leaves out half of the sources: those whose labels the "
        "model learns worst, by the loss on held-out rows divided by the entropy of the labels.",
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

    @property
    def looks(self) -> bool:
        """Whether the sampler looks at the tasks' gradients."""
        return self.sampler in ("derts", "l2s")

    def check_tasks(self, sources: int) -> Iterator[str]:
        """Yield a sentence if a round should train on more sources than there are."""
        if self.max_tasks > sources:
            yield f"Parameter meta_max_tasks is {self.max_tasks}: expected at most the {sources} sources."

    def counted_rows(self, rows: int, tasks: int) -> int:
        """Return the number of train rows in an epoch: as many as the tasks of a round have, at the mean size.

        Args:
            rows: train rows of all tasks.
            tasks: number of tasks, the target included.
        """
        return math.ceil(rows * (self.max_tasks + 1) / tasks) if self.sampler == "derts" else rows


class MetaScheduleStart(Settings):
    """What the schedule of meta-training begins with."""

    GROUP: ClassVar[str] = "meta"

    schedule_from: Literal["none", "champion"] = Field(
        "none",
        exclude_if=lambda source: source == "none",
        description="what the sampler `l2s` begins with: `none` begins anew; `champion` begins with what the "
        "schedule of the registered model's champion learned, which counts as one round. Sources that it did not "
        "have begin anew.",
    )
