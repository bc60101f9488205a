"""The fine-tuning runs that are compared, with their answers to the target's test inputs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.records.fine_tuning_runs import (
    FineTuningRun,
    GroupSettings,
    Layers,
    RunGroup,
    finished_record,
)
from gradsift.components.shared.records.run_answers import HeldOutAnswers, ValidationAnswers


@dataclass(frozen=True)
class AnsweredRun:
    """One run.

    Attributes:
        record: what it was.
        answers: its answers.
        layers: the layers that it trains, if not those of the other runs.
        unlimited: whether it was trained without the limit that the other runs keep to.
    """

    record: FineTuningRun
    answers: HeldOutAnswers
    layers: Layers | None = None
    unlimited: bool = False

    @property
    def is_trained(self) -> bool:
        """Whether it took optimizer steps; else it is the model that the runs start from."""
        return self.record.optimizer_steps > 0


@dataclass(frozen=True)
class AnsweredRuns:
    """All runs of the comparisons.

    Attributes:
        settings: what they have in common.
        runs: the runs, in any order.
    """

    settings: GroupSettings
    runs: Sequence[AnsweredRun]

    def on(self, subset: Collection[str]) -> list[AnsweredRun]:
        """Return the runs on a subset, by their seeds.

        Raises:
            InputError: there are none.
        """
        found = [
            run
            for run in self.runs
            if run.is_trained
            and run.layers is None
            and not run.unlimited
            and set(run.record.subset) == set(subset)
        ]
        if not found:
            raise InputError(
                f"No fine-tuning run is on the target and {', '.join(subset) or 'no other task'}: expected one run "
                "or more for each subset that is compared."
            )
        return sorted(found, key=lambda run: run.record.seed)

    @property
    def with_all_layers(self) -> list[AnsweredRun]:
        """The runs with all layers, by their seeds, where the others train a part of them; else none."""
        return sorted((run for run in self.runs if run.layers), key=lambda run: run.record.seed)

    @property
    def without_limit(self) -> list[AnsweredRun]:
        """The runs without a limit, in the order of their seeds; none where no other run has a limit."""
        return sorted((run for run in self.runs if run.unlimited), key=lambda run: run.record.seed)

    @property
    def untrained(self) -> AnsweredRun | None:
        """The model that the runs start from, or None where its head has to be trained first."""
        return next((run for run in self.runs if not run.is_trained), None)


def read_answered_runs(groups: Sequence[RunGroup], root_uri: str) -> AnsweredRuns:
    """Return the runs of groups with the same settings.

    Args:
        groups: at least one group.
        root_uri: the run root, a local path or an `s3://` address.

    Raises:
        NotFoundError: a run is not finished.
    """
    runs = []
    for group in groups:
        for run in group.runs:
            output = finished_record(group.settings, run, root_uri)
            folder = fetch(output, [FineTuningRun.FILE, HeldOutAnswers.FILE])
            record, answers = FineTuningRun.read(folder), HeldOutAnswers.read(folder)
            runs.append(AnsweredRun(record, answers, run.layers, run.unlimited))
    return AnsweredRuns(groups[0].settings, runs)


def read_validation(
    groups: Sequence[RunGroup], subset: Collection[str], root_uri: str
) -> list[ValidationAnswers]:
    """Return what the trained runs on a subset answered to the validation rows.

    Args:
        groups: the groups of the comparisons.
        subset: the auxiliary tasks.
        root_uri: the run root.

    Raises:
        NotFoundError: a run is not finished.
    """
    records = [
        finished_record(group.settings, run, root_uri)
        for group in groups
        for run in group.runs
        if run.steps and run.layers is None and set(run.subset) == set(subset)
    ]
    return [ValidationAnswers.read(fetch(record, [ValidationAnswers.FILE]))[0] for record in records]
