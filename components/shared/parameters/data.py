"""Which data are prepared."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from gradsift.components.shared.parameters.settings import (
    MAX_COUNT,
    MAX_SEED,
    Settings,
    form_field,
    repeated,
)

AnswerTurns = Literal["all", "last"]
Periods = Literal["none", "year", "quarter", "month"]
SEPARATOR = "#"
"""Stands between the names of a source and of a part of it; names in a manifest cannot hold it."""


class DataPreparationConfig(Settings):
    """Which data to prepare, and how much of it."""

    GROUP: ClassVar[str] = "prepare"

    suite: str = form_field(
        "suite",
        "demo",
        description="the task suite: `demo`, `demo-lm`, `demo-groups` or `demo-periods` for one that is shipped, "
        "else a local folder, an `s3://` address, or the path of a YAML file that names Hugging Face datasets.",
        min_length=1,
    )
    target: str = form_field(
        "target", "sst2", description="name of the task that the fine-tuned model is for.", min_length=1
    )
    auxiliary_tasks: list[str] = form_field(
        "sources",
        [],
        description="names of the tasks to choose from; empty means every other task of the suite.",
    )
    max_rows_per_task: int = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        description="largest number of train rows per task, a sample with the task's label shares; 0 means "
        "all.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of that sample.")
    answer_turns: AnswerTurns = Field(
        "all",
        description="which of the assistant's answers a language model learns in rows with `messages`: `all`, or "
        "the `last`. Exact match and ROUGE-L are of the last; a sequence-to-sequence model learns no other.",
    )

    periods: Periods = Field(
        "none",
        exclude_if=lambda periods: periods == "none",
        description="cuts every task whose rows have a time into one task per `year`, `quarter` or `month`. The "
        "newest keeps the task's name, older ones become sources such as `<task>.2005`. `none` cuts none.",
    )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if self.target in self.auxiliary_tasks:
            yield (
                f"Parameter sources holds the target {self.target!r}: expected other tasks of the suite only, as "
                "the target's own rows are always used."
            )
        yield from repeated("sources", self.auxiliary_tasks)
