"""The settings of the step `data_preparation`."""

from dataclasses import dataclass, field

from gradsift.components.shared.errors import InputError


@dataclass(frozen=True)
class DataPreparationConfig:
    """Which data to prepare, and how much of it.

    Attributes:
        suite: the task suite: `demo` for the one that is shipped, else a local folder, an `s3://` address, or
            the path of a YAML file that names Hugging Face datasets.
        target: name of the task that the fine-tuned model is for.
        auxiliary_tasks: names of the tasks to choose from; empty means every other task of the suite.
        max_rows_per_task: largest number of train rows a task keeps, a sample with the task's label shares;
            0 means all.
        seed: seed of that sample.

    Raises:
        InputError: a value that no run could use.
    """

    suite: str = "demo"
    target: str = "sst2"
    auxiliary_tasks: list[str] = field(default_factory=list)
    max_rows_per_task: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.suite:
            raise InputError(
                "suite is empty: expected 'demo', a folder, an s3:// address or the path of a YAML file."
            )
        if not self.target:
            raise InputError("target is empty: expected the name of a task of the suite.")
        if self.target in self.auxiliary_tasks:
            raise InputError(
                f"auxiliary_tasks holds the target {self.target!r}: expected other tasks of the suite only, "
                "as the target's own rows are always used."
            )
        for name in self.auxiliary_tasks:
            if self.auxiliary_tasks.count(name) > 1:
                raise InputError(f"auxiliary_tasks holds {name!r} more than once: expected each task once.")
        if self.max_rows_per_task < 0:
            raise InputError(
                f"max_rows_per_task is {self.max_rows_per_task}: expected a number of rows, or 0 for all."
            )
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: expected a whole number from 0 up.")
