"""What an evaluation found: the model of `evaluation.json`, which the evaluation writes and the report shows.

Metrics go by name: `loss` in nats, less is better, then others, all from 0 to 1 and more is better. Which there
are depends on the target: `accuracy` and `macro_f1` of labels; `numeric_match` (of answers that are numbers),
`rouge_l`, `exact_match` and `token_accuracy` of written answers.
"""

from typing import Annotated, ClassVar, Self

from pydantic import Field, FiniteFloat, NonNegativeInt, model_validator

from gradsift.components.shared.parameters.training import Scope, Start
from gradsift.components.shared.records.metric_names import primary_metric
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile

LOSS = "loss"
NORMAL_95 = 1.959964
"""Standard errors from the mean to the ends of a normal 95% interval."""


class Interval(Record):
    """A mean with its interval: in `evaluation.json`, the bootstrap's of 95%."""

    mean: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat

    @classmethod
    def normal(cls, mean: float, standard_error: float) -> Self:
        """Return the 95% interval of a normal distribution."""
        half = NORMAL_95 * standard_error
        return cls(mean=mean, low=mean - half, high=mean + half)


class SeedRun(Record):
    """One fine-tuning run: its mean loss on the validation rows, and its metrics on the test rows."""

    seed: int
    val_loss: FiniteFloat
    test: dict[str, FiniteFloat]


class EvaluatedModel(Record):
    """The base model, or theta*, fine-tuned on one subset, once a seed.

    Attributes:
        name: the subset's name in `Selection.comparisons`.
        subset: the auxiliary tasks it was fine-tuned on, beside the target.
        runs: the runs, one a seed.
        test: metrics on the test rows, means over seeds.
        true_val_loss: target validation loss, mean over seeds.
        true_val_loss_sd: its standard deviation over seeds; 0 for one seed.
        estimated_loss: what the estimation step had said of the subset.
        estimated_standard_error: the standard error of that.
    """

    name: str
    subset: list[str]
    runs: list[SeedRun]
    test: dict[str, Interval]
    true_val_loss: FiniteFloat
    true_val_loss_sd: NonNegative
    estimated_loss: FiniteFloat
    estimated_standard_error: NonNegative


class Confusion(Record):
    """Test rows of the chosen model by true label (rows) and given label (columns)."""

    labels: list[str]
    matrix: list[list[NonNegativeInt]]

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        size = len(self.labels)
        if len(self.matrix) != size or any(len(row) != size for row in self.matrix):
            raise ValueError(f"expected a matrix of {size} by {size} counts, one row and column a label")
        return self


class Sample(Record):
    """A test row and what the chosen model wrote.

    Attributes:
        id: the row's.
        prompt: what was asked.
        expected: every completion that is right.
        written: what the model wrote, its reasoning included.
        right: whether it counts as right: by its number where answers are numbers, else by an exact match.
    """

    id: str
    prompt: str
    expected: Annotated[list[str], Field(min_length=1)]
    written: str
    right: bool


class Verdict(Record):
    """Whether the selection helped, and the sentence that says so."""

    helped: bool
    text: str


class Difference(Record):
    """The chosen model's metrics minus those of the model `name`, by paired bootstrap over test rows."""

    name: str
    test: dict[str, Interval]

    @property
    def same_model(self) -> bool:
        """Whether both were fine-tuned on the same subset: no row has another loss."""
        return self.test[LOSS] == Interval(mean=0, low=0, high=0)


class AllLayers(Record):
    """All layers trained on the chosen subset, where the compared models train a part of them.

    Attributes:
        scope: the part that they train.
        model: the subset's model with all layers, called `all_layers`.
        difference: the chosen model against it.
    """

    scope: Scope
    model: EvaluatedModel
    difference: Difference


class Evaluation(ResultFile):
    """`evaluation.json`: what the selection bought on held-out data.

    Attributes:
        target: name of the target task.
        labels: the target's label names; none where answers are written.
        val_rows: rows of the target's validation split.
        test_rows: rows of its test split.
        start: the weights that every fine-tuning run starts from: `base`, the pretrained ones, or `meta`, theta*.
        optimizer_steps: steps of every fine-tuning run.
        batch_size: rows per step.
        seeds: fine-tuning runs per model.
        models: the compared models, the chosen one called `selected`, all with the same metrics.
        base_model: metrics of the model with those weights, before any fine-tuning, where it was measured.
        confusion: the chosen model's confusion matrix, where the target has labels.
        samples: some of what the chosen model's first run wrote, where the target has none.
        spearman: rank correlation of estimated with true validation losses over the models, where defined.
        verdict: whether the selection helped.
        cautions: what a reader must know before the numbers.
        difference_to: the chosen model against each other one.
        all_layers: what training all layers gives, where a part of them was trained.
    """

    FILE: ClassVar[str] = "evaluation.json"

    target: str
    labels: list[str]
    val_rows: NonNegativeInt
    test_rows: NonNegativeInt
    start: Start = "base"
    optimizer_steps: NonNegativeInt
    batch_size: NonNegativeInt
    seeds: int
    models: list[EvaluatedModel]
    base_model: dict[str, Interval] | None
    confusion: Confusion | None
    samples: list[Sample] = []
    spearman: FiniteFloat | None
    verdict: Verdict
    cautions: list[str] = []
    difference_to: list[Difference]
    all_layers: AllLayers | None = Field(default=None, exclude_if=lambda found: found is None)

    @model_validator(mode="after")
    def _has_the_chosen_model(self) -> Self:
        if all(model.name != "selected" for model in self.models):
            raise ValueError("expected a model called 'selected'")
        return self

    @model_validator(mode="after")
    def _has_the_same_metrics_everywhere(self) -> Self:
        names = list(self.chosen.test)
        measured = [
            self.base_model or names,
            *(model.test for model in self.models),
            *(run.test for model in self.models for run in model.runs),
            *(each.test for each in self.difference_to),
        ]
        if len(names) < 2 or names[0] != LOSS or any(list(metrics) != names for metrics in measured):
            raise ValueError(f"expected {LOSS!r} and at least one more metric, the same for every model")
        return self

    @property
    def chosen(self) -> EvaluatedModel:
        """The model fine-tuned on the chosen subset."""
        return next(model for model in self.models if model.name == "selected")

    @property
    def shares(self) -> list[str]:
        """Names of the metrics other than the loss."""
        return [name for name in self.chosen.test if name != LOSS]

    @property
    def primary(self) -> str:
        """Name of the metric that the target is judged by."""
        return primary_metric(self.chosen.test)

    def model_of(self, name: str) -> EvaluatedModel | None:
        """Return the model of that name, or None where it was not evaluated."""
        return next((model for model in self.models if model.name == name), None)
