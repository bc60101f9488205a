"""What a fidelity study found: `fidelity.json`."""

from typing import Any, ClassVar, Literal

from pydantic import FiniteFloat, NonNegativeInt

from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile

Kind = Literal["estimator", "baseline", "calibration"]


class MethodFidelity(Record):
    """How close one way to judge subsets comes to the truth.

    Attributes:
        method: its name.
        kind: `estimator`, `baseline`, or `calibration`: what calibration runs choose among the estimators, judged
            on the other subsets.
        expansion: weights at which the gradients were taken, `meta`, `base` or `both`; None where the runs choose.
        ridge: of an estimator.
        lds: Spearman's rank correlation with the true losses, where defined.
        lds_low: lower end of its 95% bootstrap interval over subsets.
        lds_high: upper end.
        kendall: Kendall's tau-b.
        error_raw: mean relative error of the estimates as they are; None for scores, which are no losses.
        error_left_out: mean relative error after a line through all other subsets, leaving one out in turn.
        error_none_all: mean relative error on the other subsets once runs on none and on all give level and slope
            (see `mixture_fit`); None for scores.
        regret: in nats, of the best of none, all and the first k subsets in this order, k from 1 to `MAX_RUNS` (see
            `metrics.regret`).
        error_calibrated: mean relative error after a line through some runs, on the others.
        estimates: one a subset, as they are.
    """

    method: str
    kind: Kind
    expansion: str | None
    ridge: NonNegative | None = None
    lds: FiniteFloat | None
    lds_low: FiniteFloat | None = None
    lds_high: FiniteFloat | None = None
    kendall: FiniteFloat | None = None
    error_raw: NonNegative | None = None
    error_calibrated: NonNegative
    error_left_out: NonNegative | None = None
    error_none_all: NonNegative | None = None
    regret: list[FiniteFloat] = []
    estimates: list[FiniteFloat] = []


class Ceiling(Record):
    """The noise ceiling (see `fidelity_metrics.NoiseCeiling`)."""

    deviation: NonNegative
    repeated: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    perfect: NonNegative


class TruthFidelity(Record):
    """All methods against one truth.

    Attributes:
        start: what was fine-tuned, `base` or `meta` (see `FineTuningRun`).
        losses: mean true loss of every subset over seeds.
        deviations: standard deviation of that loss between seeds; empty for one seed.
        ceiling: what training again would reach; None for one seed.
        error_constant: mean relative error of predicting the mean of the calibration runs.
        error_constant_left_out: that of predicting the mean of all other subsets.
        random_regret: as `MethodFidelity.regret`, the mean over random orders.
        methods: the methods, best rank correlation first.
        seconds: what all fine-tunings took.
    """

    start: Start
    losses: list[FiniteFloat]
    deviations: list[NonNegative]
    ceiling: Ceiling | None
    error_constant: NonNegative
    error_constant_left_out: NonNegative
    random_regret: list[FiniteFloat]
    methods: list[MethodFidelity]
    seconds: NonNegative


class Ledger(Record):
    """Where the time went, in seconds.

    Attributes:
        true_run: one true fine-tuning, the mean.
        meta_training: theta*.
        extraction: one gradient store.
        reading: sums of the store, once.
        estimate: one subset.
        worth: true fine-tunings that cost as much as meta-training, extraction and reading.
    """

    true_run: NonNegative
    meta_training: NonNegative
    extraction: NonNegative
    reading: NonNegative
    estimate: NonNegative
    worth: NonNegative


class Fidelity(ResultFile):
    """`fidelity.json`.

    Attributes:
        suite: name of the task suite.
        target: name of the target task.
        command: what made it.
        subsets: the subsets, none and all first.
        seeds: fine-tunings of each.
        val_rows: target validation rows behind every loss.
        calibration_runs: runs behind every line.
        estimator: what the settings take without calibration, at theta*.
        ridge: its ridge.
        recipe: of the true fine-tunings.
        truths: one or both.
        ledger: where the time went.
    """

    FILE: ClassVar[str] = "fidelity.json"

    suite: str
    target: str
    command: str
    subsets: list[list[str]]
    seeds: NonNegativeInt
    val_rows: NonNegativeInt
    calibration_runs: NonNegativeInt
    estimator: str
    ridge: NonNegative
    recipe: dict[str, Any]
    truths: list[TruthFidelity]
    ledger: Ledger

    def is_default(self, method: MethodFidelity) -> bool:
        """Say whether a method is what the settings take without calibration."""
        chosen = (method.method, method.expansion) == (self.estimator, "meta")
        return chosen and method.ridge in (None, self.ridge)
