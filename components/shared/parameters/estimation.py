"""How losses of subsets are estimated, and how one subset is chosen."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field

from gradsift.components.shared.parameters.data import SEPARATOR
from gradsift.components.shared.parameters.settings import MAX_COUNT, MAX_SEED, Settings, repeated
from gradsift.components.shared.parameters.training import (
    FineTuningSettings,
    Start,
    TrainingRecipe,
    TrainingSettings,
)

Estimator = Literal["simulated", "gauss_newton", "logistic"]
RidgeScaling = Literal["per_row", "absolute"]
Method = Literal["forward_stepwise", "random_ensemble", "best_of_m"]
RIDGE_ESTIMATORS: tuple[Estimator, ...] = ("gauss_newton", "logistic")
MIN_RIDGE = 1e-8


class EstimationSettings(Settings):
    """How losses of subsets are estimated and how one subset is chosen."""

    GROUP: ClassVar[str] = "estimate"

    estimator: Estimator = Field(
        "simulated",
        description="`simulated` (fine-tuning as the recipe does it, in the linear model, averaged over learning "
        "rates, with ridge regressions beside it), `gauss_newton` (one damped Gauss-Newton step, its cost "
        "independent of the number of rows) or `logistic` (the paper's logistic regression with margins as "
        "offsets, converged).",
    )
    method: Method = Field(
        "forward_stepwise",
        description="the selection method whose subset is the step's choice: `forward_stepwise`, "
        "`random_ensemble` or `best_of_m`; the others are run too and shown beside it.",
    )
    ridge: float = Field(
        10.0,
        ge=MIN_RIDGE,
        le=1e12,
        description="c, the strength of the ridge of `gauss_newton` and `logistic`, in units of the mean "
        "curvature tr(H)/d of a train row (`simulated` has ridges of its own). It "
        "stands for how far fine-tuning moves: a short one (few steps, low learning rate) wants "
        "a large c. The default is where estimates ranked truly trained subsets best on a target"
        " that is not in the demo (see the README); choose it by calibration runs where there "
        "are any.",
    )
    stopping: Literal["minimum", "one_standard_error"] = Field(
        "minimum",
        description="which subset on the path of `forward_stepwise` is taken: `minimum`, the last one, with "
        "the lowest estimate; or `one_standard_error`, the smallest one whose estimate is within"
        " one standard error of the difference to that.",
    )
    required_tasks: list[str] = Field(
        [],
        description="names of auxiliary tasks that every choice must hold. The name of a source that was cut "
        "stands for all its parts.",
    )
    excluded_tasks: list[str] = Field(
        [],
        description="names of auxiliary tasks that no choice may hold. The name of a source that was cut stands "
        "for all its parts.",
    )
    max_tasks: int = Field(
        0, ge=0, le=10**6, description="largest number of auxiliary tasks to choose; 0 means no limit."
    )
    max_rows: int = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        description="largest number of train rows that the chosen auxiliary tasks may have together; 0 means"
        " no limit.",
    )
    random_subsets: int = Field(
        1000,
        ge=1,
        le=10**6,
        description="m, the number of random subsets behind random ensemble and best of m.",
    )
    subset_fraction: float = Field(
        0.5, gt=0, le=1, description="size of a random subset as a share of the auxiliary tasks."
    )
    ensemble_top: int = Field(
        0,
        ge=0,
        le=10**6,
        description="how many tasks random ensemble keeps; 0 lets `ensemble_threshold` decide.",
    )
    ensemble_threshold: float = Field(
        0.0,
        ge=-1e6,
        le=1e6,
        description="random ensemble keeps the tasks whose mean estimate T_i is below the mean of all random "
        "subsets by more than this, in nats.",
    )
    random_baseline_draws: int = Field(
        20,
        ge=1,
        le=10**5,
        description="random subsets of the selection's size that the random baseline is the mean of.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of the random subsets and of resampling.")

    def for_tasks(self, tasks: Sequence[str]) -> Self:
        """Return the settings with the names of cut sources replaced by those of their parts among these tasks."""
        fields = {"required_tasks": self.required_tasks, "excluded_tasks": self.excluded_tasks}
        return self.model_copy(update={field: _with_parts(names, tasks) for field, names in fields.items()})

    def permits(self, subset: Collection[str], rows: int) -> bool:
        """Return whether a subset of the auxiliary tasks with so many train rows together may be chosen."""
        return (
            set(self.required_tasks) <= set(subset)
            and not set(self.excluded_tasks) & set(subset)
            and (self.max_tasks or math.inf) >= len(subset)
            and (self.max_rows or math.inf) >= rows
        )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        yield from repeated("estimate_required_tasks", self.required_tasks)
        yield from repeated("estimate_excluded_tasks", self.excluded_tasks)
        for task in self.required_tasks:
            if task in self.excluded_tasks:
                yield (
                    f"Parameter estimate_required_tasks holds {task!r}, which estimate_excluded_tasks holds too: "
                    "expected it in one of them."
                )
        if 0 < self.max_tasks < len(self.required_tasks):
            yield (
                f"Parameter estimate_max_tasks is {self.max_tasks}: expected at least the "
                f"{len(self.required_tasks)} required tasks."
            )


def _with_parts(names: Sequence[str], tasks: Sequence[str]) -> list[str]:
    parts = {name: [task for task in tasks if task.startswith(f"{name}{SEPARATOR}")] for name in names}
    return [task for name in names for task in (parts[name] or [name])]


class SubsetEstimationConfig(EstimationSettings):
    """The estimation's settings, with what follows from those of training."""

    fine_tuning: TrainingRecipe = Field(
        TrainingRecipe.of(TrainingSettings.model_validate({}), FineTuningSettings.model_validate({})),
        strict=False,
        description="the recipe of the runs whose losses are estimated.",
    )
    start: Start = Field(
        "base", description="the weights that the runs start from: the base weights or theta* (`meta`)."
    )
    meta_training: TrainingRecipe = Field(
        TrainingRecipe.model_validate({}),
        strict=False,
        description="the recipe that the weights of the store were trained by.",
    )

    ridge_scaling: RidgeScaling = Field(
        "per_row",
        description="`per_row` where fine-tuning takes the same number of optimizer steps whatever the "
        "subset (the ridge grows with the subset's rows), `absolute` where it takes the same "
        "number of epochs (one ridge for all subsets).",
    )

    @classmethod
    def of(
        cls,
        settings: EstimationSettings,
        fine_tuning: TrainingRecipe,
        meta_training: TrainingRecipe,
        start: Start,
    ) -> Self:
        """Return the settings with the recipes of both trainings, the runs' start, and the ridge's scaling."""
        scaling: RidgeScaling = "per_row" if fine_tuning.steps else "absolute"
        return cls(
            **settings.model_dump(),
            fine_tuning=fine_tuning,
            meta_training=meta_training,
            start=start,
            ridge_scaling=scaling,
        )
