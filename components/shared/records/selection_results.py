"""What a selection found: the model of `selection.json`.

The estimation step writes it, the evaluation step reads it, the report shows it. Losses are in nats. A subset is a
list of auxiliary tasks; the target's own training rows always come with it.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, FiniteFloat, NonNegativeInt, model_validator

from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile, Share

FIRST_ROUND, SECOND_ROUND = "first_round", "second_round"
"""Rounds of the runs that confirm a choice."""
SelectionMethod = Literal["forward_stepwise", "random_ensemble", "best_of_m"]
HealthFinding = Literal["random_labels", "contradicted_labels", "duplicate", "opposed"]


class PathStep(Record):
    """One step of the search for a subset.

    Attributes:
        action: what was done to the subset before.
        task: the task that came in (`add`, `swap`), else None.
        removed: the task that went out (`drop`, `swap`), else None.
        subset: the subset after the step.
        estimated_loss: estimated target validation loss of that subset.
        standard_error: its standard error.
    """

    action: Literal["start", "add", "drop", "swap"]
    task: str | None
    removed: str | None
    subset: list[str]
    estimated_loss: FiniteFloat
    standard_error: NonNegative


class TaskScore(Record):
    """How much one auxiliary task lowers the estimated target loss; positive helps.

    Attributes:
        task: the task.
        score: mean fall of the estimated loss where the task joins a subset, in nats.
        standard_error: its standard error.
        selected: whether the task was chosen.
        share: how often the search takes the task when validation rows and projection blocks are resampled;
            None where that was not asked.
    """

    task: str
    score: FiniteFloat
    standard_error: NonNegative
    selected: bool
    share: Share | None = None


class TaskHealth(Record):
    """What the gradient store says of one auxiliary task by itself; it is named, never left out for that.

    Losses are means over rows in units of what guessing costs: 1 is no better than that, 0 is certainty.
    Correlations are those of labels with the model's probabilities of them: 0 is no better than guessing, 1 is
    certainty, and -1 that the model is certain of other labels.

    Attributes:
        task: the task.
        rows: train rows that were looked at; 0 where none is answered by one of several labels.
        adapted: loss of rows held out over the entropy of the labels, after training from the base weights on the
            task's other rows alone; None where there are few rows or one label.
        zero_shot: loss at the base weights over that of guessing among the labels; None where labels are written,
            as an untrained language model does worse than guessing.
        learned: correlation on the rows held out, after that training; None where labels are written.
        learned_error: its standard error; None like it.
        named: correlation at the base weights, which know the labels' names alone; None where labels are written.
        named_error: its standard error; None like it.
        duplicate_of: the task whose mean gradient points nearly the same way.
        against: the task whose mean gradient points most against this one's, where it clearly does.
        agreement: cosine of its mean gradient and the sum of the other tasks' at length 1.
        findings: what deserves a look.
    """

    task: str
    rows: NonNegativeInt
    adapted: NonNegative | None = None
    zero_shot: NonNegative | None = None
    learned: FiniteFloat | None = None
    learned_error: NonNegative | None = None
    named: FiniteFloat | None = None
    named_error: NonNegative | None = None
    duplicate_of: str | None = None
    against: str | None = None
    agreement: FiniteFloat = 0.0
    findings: list[HealthFinding] = []


class MethodResult(Record):
    """The subset that one selection method or baseline takes, and its estimated loss.

    Attributes:
        method: name of the method or baseline.
        subset: the auxiliary tasks.
        estimated_loss: estimated target validation loss.
        standard_error: its standard error.
        estimated_gap: estimated gap between the groups that are compared (see `gaps`), where there are any.
    """

    method: str
    subset: list[str]
    estimated_loss: FiniteFloat
    standard_error: NonNegative
    estimated_gap: FiniteFloat | None = Field(default=None, exclude_if=lambda gap: gap is None)


class Synergy(Record):
    """What two tasks do together beyond what each does alone, f({i, j}) - f({i}) - f({j}) + f({}), in nats.

    Attributes:
        tasks: the tasks of rows and columns.
        values: symmetric, zero on the diagonal. Negative: the two help more together than apart; positive:
            one makes up for the other.
    """

    tasks: list[str]
    values: list[list[FiniteFloat]]

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        size = len(self.tasks)
        if len(self.values) != size or any(len(row) != size for row in self.values):
            raise ValueError(f"expected {size} by {size} values, one row and column per task")
        return self


class TaskMap(Record):
    """The tasks in a plane, near each other where their mean train gradients point the same way.

    Attributes:
        tasks: the target, then the auxiliary tasks.
        x: first coordinate of every task, without a unit.
        y: second coordinate.
        cluster: index of the group that spectral clustering puts the task in.
    """

    tasks: list[str]
    x: list[FiniteFloat]
    y: list[FiniteFloat]
    cluster: list[NonNegativeInt]

    @model_validator(mode="after")
    def _has_every_task_once(self) -> Self:
        if not len(self.tasks) == len(self.x) == len(self.y) == len(self.cluster):
            raise ValueError("expected one x, y and cluster per task")
        return self


class Surrogate(Record):
    """How well a simple function of which tasks are in predicts the estimated loss of a subset.

    Attributes:
        kind: `linear`, one coefficient per task, or `rbf`, a smooth function of the whole subset.
        held_out_r2: share of the variance explained in the third of the subsets that it was not fitted to.
        held_out_spearman: its rank correlation with the estimates of those; None where either is constant.
        coefficients: `linear` only: change of the estimated loss in nats as a task joins.
        subsets: subsets it was fitted to and tested on.
    """

    kind: Literal["linear", "rbf"]
    held_out_r2: FiniteFloat
    held_out_spearman: FiniteFloat | None
    coefficients: dict[str, FiniteFloat]
    subsets: NonNegativeInt


class CalibrationRun(Record):
    """One subset truly fine-tuned on, from the base model.

    Attributes:
        subset: the auxiliary tasks, beside the target.
        seed: of the fine-tuning.
        true_loss: target validation loss after it.
        true_accuracy: target validation accuracy after it, where it was measured.
        estimated_loss: the estimate before calibration.
        calibrated_loss: the estimate calibrated on the other runs.
    """

    subset: list[str]
    seed: int
    true_loss: FiniteFloat
    true_accuracy: FiniteFloat | None
    estimated_loss: FiniteFloat
    calibrated_loss: FiniteFloat


class Calibration(Record):
    """What true fine-tunings say of the estimates. Errors are mean relative errors of runs left out in turn.

    Attributes:
        runs: the true fine-tunings.
        estimator: the estimator chosen by them.
        ridge: the ridge chosen by them; a mixture has its own.
        expansion: the weights the chosen estimates expand around.
        slope: calibrated loss = intercept + slope * estimated loss.
        intercept: in nats.
        spearman: rank correlation of estimated with true losses, where defined.
        kendall: Kendall's tau of the same, where defined.
        error_raw: error of the estimates as they are.
        error_calibrated: error after calibration on the other runs.
        error_constant: error of predicting the mean of the other runs.
        noise: standard deviation of the true loss between seeds in nats, where subsets were run twice.
    """

    runs: list[CalibrationRun]
    estimator: str
    ridge: NonNegative
    expansion: str
    slope: FiniteFloat
    intercept: FiniteFloat
    spearman: FiniteFloat | None
    kendall: FiniteFloat | None
    error_raw: NonNegative
    error_calibrated: NonNegative
    error_constant: NonNegative
    noise: NonNegative | None = None


class ConfirmedRun(Record):
    """One subset truly fine-tuned on before the choice.

    Attributes:
        subset: the auxiliary tasks, beside the target.
        estimated_loss: what the estimation step says of it, in nats.
        true_loss: target validation loss after it.
        excess: mean over validation rows of its loss less that of the lowest one, with its 95% interval.
        train_rows: rows that were trained on, the target's included.
        permitted: whether it keeps to the limits of a choice.
        chosen: whether it is the choice.
    """

    subset: list[str]
    estimated_loss: FiniteFloat
    true_loss: FiniteFloat
    excess: Interval
    train_rows: NonNegativeInt
    permitted: bool
    chosen: bool

    @property
    def residual(self) -> float:
        """The true loss less the estimate."""
        return self.true_loss - self.estimated_loss


class Cost(Record):
    """What the runs before a choice cost, beside training on every subset that was estimated.

    Attributes:
        runs: fine-tuning runs.
        optimizer_steps: of all runs.
        rows: rows that all those steps trained on, repetitions included.
        tokens: tokens that were taken through the model for them.
        padding: how many of these are padding.
        seconds: of all runs.
        seconds_of_all: what runs on all estimated subsets would take at the mean of these.
    """

    runs: NonNegativeInt
    optimizer_steps: NonNegativeInt
    rows: NonNegativeInt
    tokens: NonNegativeInt
    padding: NonNegativeInt
    seconds: NonNegative
    seconds_of_all: NonNegative


class Confirmation(Record):
    """What a choice among trained subsets rests on: the runs, the lowest true loss first, and their cost."""

    runs: list[ConfirmedRun]
    cost: Cost

    @property
    def chosen(self) -> ConfirmedRun:
        """The run that was chosen."""
        return next(run for run in self.runs if run.chosen)


class Selection(ResultFile):
    """`selection.json`: the chosen subset and how it was found.

    Attributes:
        suite: name of the task suite.
        target: name of the target task.
        method: the selection method that made the choice.
        estimator: how losses of subsets were estimated.
        ridge: the ridge of a ridge estimator, in the units of `ridge_scaling`.
        ridge_scaling: whether the ridge grows with the subset's rows.
        auxiliary_tasks: every task that could be chosen.
        selected: the chosen ones.
        estimated_loss: estimated target validation loss of the chosen subset.
        standard_error: its standard error.
        reason: in plain words, why this subset.
        path: the steps of the search, in order; empty where the method takes none.
        task_scores: one score an auxiliary task.
        methods: every selection method and baseline, on the same gradient store.
        comparisons: the subsets to fine-tune on, by name: `selected` and what it is compared with.
        subsets_estimated: number of subsets whose loss was estimated.
        seconds: what that took.
        calibrated: whether calibration runs put the estimates on the scale of true losses.
        ties: other subsets whose estimate is within one standard error of the difference of the chosen one's.
        synergy: of pairs of tasks, where there are two.
        task_map: the tasks in a plane.
        surrogates: simple predictors of the estimates, with how far they can be trusted.
        health: of every auxiliary task by itself.
        calibration: what calibration runs said, where there were any.
        members: weight of each member where the estimate is a mixture (`simulated`); they sum to 1.
        finalists: the subsets that are fine-tuned on before the choice, `method` the round.
        confirmation: the runs that confirmed the choice; None where it rests on estimates alone.
        gap_limit: the largest estimated gap that a choice may have, where there is a limit.
    """

    FILE: ClassVar[str] = "selection.json"

    suite: str
    target: str
    method: SelectionMethod
    estimator: Literal["simulated", "gauss_newton", "logistic"]
    ridge: NonNegative
    ridge_scaling: Literal["per_row", "absolute"]
    auxiliary_tasks: list[str]
    selected: list[str]
    estimated_loss: FiniteFloat
    standard_error: NonNegative
    reason: str
    path: list[PathStep]
    task_scores: list[TaskScore]
    methods: list[MethodResult]
    comparisons: dict[str, list[str]]
    subsets_estimated: NonNegativeInt
    seconds: NonNegative
    calibrated: bool = False
    ties: list[MethodResult] = []
    synergy: Synergy | None = None
    task_map: TaskMap | None = None
    surrogates: list[Surrogate] = []
    health: list[TaskHealth] = []
    calibration: Calibration | None = None
    members: dict[str, FiniteFloat] = {}
    finalists: list[MethodResult] = []
    confirmation: Confirmation | None = None
    gap_limit: NonNegative | None = Field(default=None, exclude_if=lambda limit: limit is None)

    def permits_gap(self, subset: MethodResult) -> bool:
        """Return whether a subset's estimated gap keeps to the limit."""
        gap, limit = subset.estimated_gap, self.gap_limit
        return gap is None or limit is None or abs(gap) <= limit

    def estimate_of(self, comparison: str) -> MethodResult:
        """Return the estimate of one of `comparisons`' subsets."""
        if comparison == "selected":
            return MethodResult(
                method=self.method,
                subset=self.selected,
                estimated_loss=self.estimated_loss,
                standard_error=self.standard_error,
            )
        return next(result for result in self.methods if result.method == comparison)

    def confirmed(self, confirmation: Confirmation, reason: str) -> "Selection":
        """Return the selection with the subset as its choice that truly trained runs chose."""
        subset = confirmation.chosen.subset
        [estimate] = [each for each in self.finalists if each.subset == subset]
        return self.model_copy(
            update={
                "selected": subset,
                "estimated_loss": estimate.estimated_loss,
                "standard_error": estimate.standard_error,
                "reason": reason,
                "task_scores": [
                    score.model_copy(update={"selected": score.task in subset}) for score in self.task_scores
                ],
                "comparisons": {**self.comparisons, "selected": subset},
                "confirmation": confirmation,
            }
        )

    @model_validator(mode="after")
    def _selected_are_auxiliary(self) -> Self:
        unknown = sorted(set(self.selected) - set(self.auxiliary_tasks))
        if unknown:
            raise ValueError(f"selected task {unknown[0]!r} is not among the auxiliary tasks")
        return self
