"""How two groups of rows are treated: in training under a limit, and by the compared models on test rows."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt

from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.evaluation_results import Difference, Interval
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile

UNLIMITED = "unconstrained"
"""Name of the comparison with the chosen subset, trained without the limit."""
LIMIT_FIELD = "fairness"
"""The field of `training.json` that describes a training under a limit."""
GAPS = ("parity_gap", "true_positive_gap", "false_positive_gap", "covariance")


class DualStep(Record):
    """The limit's multipliers after an optimizer step; 0 is before the first.

    Attributes:
        step: the number of the step.
        upper: of the limit on a positive covariance.
        lower: of the limit on a negative one.
    """

    step: NonNegativeInt
    upper: NonNegative
    lower: NonNegative


class LimitedTraining(Record):
    """A training under a limit on the covariance.

    Attributes:
        settings: fields of the `FairnessConfig`.
        tasks: the tasks whose rows were limited.
        unlimited_tasks: tasks that lack rows of one of the groups, or two labels of which one is favourable.
        path: the multipliers before the first step, at the points of the loss curve, and after the last step.
    """

    settings: dict[str, Any]
    tasks: list[str]
    unlimited_tasks: list[str]
    path: Annotated[list[DualStep], Field(min_length=1)]


def limited_training(result: Mapping[str, Any]) -> LimitedTraining | None:
    """Return how a model was trained under a limit, by its `training.json`; None where it was trained without."""
    values = result.get(LIMIT_FIELD)
    return None if values is None else LimitedTraining.model_validate(values)


class GroupModel(Record):
    """How one of the compared models treats the groups.

    Attributes:
        name: as in `Selection.comparisons`, or `UNLIMITED`.
        subset: the auxiliary tasks that it was fine-tuned on.
        test: metrics on the test rows that have a group, means over seeds (see `GroupScores.weighted`); undefined
            ones are left out.
        labels_given: the smallest number of different labels that any of its runs gave.
    """

    name: str
    subset: list[str]
    test: dict[str, Interval]
    labels_given: PositiveInt


class GroupReport(ResultFile):
    """`fairness.json`: how each compared model treats a group of the target's test rows and the others.

    Attributes:
        group: the group.
        positive: name of the favourable label.
        limit: the limit on the covariance in training; 0 for none.
        space: what the covariance is of: the `margin` or the `probability`.
        start: the weights that every fine-tuning run starts from.
        group_rows: test rows of the group.
        other_rows: test rows of the others.
        rows_without_group: test rows without any group, which no metric counts.
        models: the compared models, the chosen one first.
        cost: the chosen model minus the same training without the limit, where there is a limit.
        training: how the chosen model was trained under the limit, where there is one.
        warnings: what a reader must know before the numbers.
    """

    FILE: ClassVar[str] = "fairness.json"

    group: str
    positive: str
    limit: NonNegative
    space: str
    start: Start
    group_rows: NonNegativeInt
    other_rows: NonNegativeInt
    rows_without_group: NonNegativeInt
    models: Annotated[list[GroupModel], Field(min_length=1)]
    cost: Difference | None
    training: LimitedTraining | None
    warnings: list[str]

    @property
    def chosen(self) -> GroupModel:
        """The model fine-tuned on the chosen subset, under the limit if there is one."""
        return self.models[0]

    @property
    def unlimited(self) -> GroupModel | None:
        """The same training without the limit, where there is one."""
        return next((model for model in self.models if model.name == UNLIMITED), None)

    @property
    def metrics(self) -> dict[str, FiniteFloat]:
        """The gaps of the chosen model, and of the training without the limit, by names for a run's metrics."""
        found = {name: self.chosen.test[name].mean for name in GAPS if name in self.chosen.test}
        if self.unlimited is not None:
            found |= {f"{name}_free": self.unlimited.test[name].mean for name in found}
        if self.cost is not None:
            found["accuracy_minus_free"] = self.cost.test["accuracy"].mean
        return found
