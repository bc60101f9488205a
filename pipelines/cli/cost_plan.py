"""The command line's `gradsift plan`: what a run will cost, counted from its suite or from numbers."""

import tempfile
from dataclasses import dataclass

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.preflight.cost.model_size import ModelSize, model_outline, size_of
from gradsift.components.preflight.cost.plan import CostPlan, plan_cost
from gradsift.components.preflight.cost.row_lengths import HELD_OUT, RowLengths
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData, PreparedTask, Split, TaskIndex
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.model import MAX_AUTO_LENGTH
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings


@dataclass(frozen=True)
class SuiteNumbers:
    """What stands for a suite that is not at hand: tasks of one size.

    Attributes:
        sources: number of auxiliary tasks.
        train_rows: of all tasks together, the target's included.
        held_out_rows: of the target's validation split, and of its test split.
        tokens_per_row: mean number of tokens of a row.
    """

    sources: int
    train_rows: int
    held_out_rows: int
    tokens_per_row: float

    @classmethod
    def of(
        cls, sources: int | None, train_rows: int | None, held_out_rows: int, tokens_per_row: float | None
    ) -> "SuiteNumbers | None":
        """Return the numbers, or None where none of them was given.

        Raises:
            InputError: some were given and others not, or there are fewer rows than tasks.
        """
        if sources is None and train_rows is None and tokens_per_row is None:
            return None
        if sources is None or train_rows is None or tokens_per_row is None:
            raise InputError(
                "Some of the options source-count, train-rows and tokens-per-row are missing: expected all of "
                "them, or none where the suite is at hand."
            )
        if train_rows <= sources:
            raise InputError(
                f"Option train-rows is {train_rows}: expected at least one row for each of the {sources} sources "
                "and the target."
            )
        return cls(sources, train_rows, held_out_rows, tokens_per_row)

    def index(self, target: str, max_length: int) -> TaskIndex:
        """Return the tasks, whose rows are written answers."""
        size, larger = divmod(self.train_rows, self.sources + 1)
        names = [target, *(f"source-{number}" for number in range(1, self.sources + 1))]
        held_out: dict[Split, int] = dict.fromkeys(HELD_OUT, self.held_out_rows)
        tasks = [
            PreparedTask(
                name=name,
                kind="generation",
                labels=[],
                rows={"train": size + (place < larger), **(held_out if name == target else {})},
            )
            for place, name in enumerate(names)
        ]
        return TaskIndex("numbers", target, max_length, tasks)


def plan_run(
    settings: PipelineSettings, numbers: SuiteNumbers | None, model_parameters: int | None
) -> CostPlan:
    """Return what a run will cost.

    A suite is read and cleaned as data preparation does it, and its rows are tokenised; nothing of that is kept.

    Args:
        settings: all settings.
        numbers: what stands for the suite; None reads it.
        model_parameters: of a causal language model that stands for the base model; None takes the sizes of
            the base model's configuration.

    Raises:
        InputError: the suite or the base model cannot be used.
    """
    if numbers is not None:
        length = settings.model.max_length or MAX_AUTO_LENGTH
        index = numbers.index(settings.data.target, length)
        lengths = RowLengths.constant(index, numbers.tokens_per_row)
        return plan_cost(settings, index, lengths, _size(settings, index, model_parameters))
    with tempfile.TemporaryDirectory() as root:
        data = PreparedData(fetch(prepare_data(settings.data, root, settings.model)))
        lengths = RowLengths.measured(data, model_outline(settings.model, data))
        return plan_cost(settings, data, lengths, _size(settings, data, model_parameters))


def _size(settings: PipelineSettings, index: TaskIndex, parameters: int | None) -> ModelSize:
    if parameters is None:
        return size_of(model_outline(settings.model, index), settings.model.train_embeddings)
    trained = 0 if settings.model.lora_rank else parameters
    return ModelSize("causal", parameters, passed=parameters, trained=trained)
