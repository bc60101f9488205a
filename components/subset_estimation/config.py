"""The settings of the estimation step."""

from dataclasses import dataclass, field
from math import inf, isfinite

from gradsift.components.shared.errors import InputError

ESTIMATORS = ("gauss_newton", "logistic")
METHODS = ("forward_stepwise", "random_ensemble", "best_of_m")
STOPPING_RULES = ("minimum", "one_standard_error")
RIDGE_SCALINGS = ("per_row", "absolute")
SMALLEST_RIDGE = 1e-8


@dataclass(frozen=True)
class SubsetEstimationConfig:
    """How losses of subsets are estimated and how one subset is chosen.

    Attributes:
        estimator: `gauss_newton` (one damped Gauss-Newton step, its cost independent of the number of rows)
            or `logistic` (the paper's logistic regression with margins as offsets, converged).
        method: the selection method whose subset is the step's choice: `forward_stepwise`, `random_ensemble`
            or `best_of_m`; the others are run too and shown beside it.
        ridge: c, the strength of the ridge in units of the mean curvature tr(H)/d of a train row. It stands
            for how far fine-tuning moves: a short one (few steps, low learning rate) wants a large c. The
            default is where estimates ranked truly trained subsets best on a target that is not in the demo
            (see the README); choose it by calibration runs where there are any.
        ridge_scaling: `per_row` where fine-tuning takes the same number of optimizer steps whatever the
            subset (the ridge grows with the subset's rows), `absolute` where it takes the same number of
            epochs (one ridge for all subsets).
        stopping: which subset on the path of `forward_stepwise` is taken: `minimum`, the last one, with the
            lowest estimate; or `one_standard_error`, the smallest one whose estimate is within one standard
            error of the difference to that.
        required_tasks: names of auxiliary tasks that every choice must hold.
        excluded_tasks: names of auxiliary tasks that no choice may hold.
        max_tasks: largest number of auxiliary tasks to choose; 0 means no limit.
        max_rows: largest number of train rows that the chosen auxiliary tasks may have together; 0 means no
            limit.
        random_subsets: m, the number of random subsets behind random ensemble and best of m.
        subset_fraction: size of a random subset as a share of the auxiliary tasks.
        ensemble_top: how many tasks random ensemble keeps; 0 lets `ensemble_threshold` decide.
        ensemble_threshold: random ensemble keeps the tasks whose mean estimate T_i is below the mean of all
            random subsets by more than this, in nats.
        random_baseline_draws: random subsets of the selection's size that the random baseline is the mean of.
        seed: seed of the random subsets and of resampling.
    """

    estimator: str = "gauss_newton"
    method: str = "forward_stepwise"
    ridge: float = 10.0
    ridge_scaling: str = "per_row"
    stopping: str = "minimum"
    required_tasks: list[str] = field(default_factory=list)
    excluded_tasks: list[str] = field(default_factory=list)
    max_tasks: int = 0
    max_rows: int = 0
    random_subsets: int = 1000
    subset_fraction: float = 0.5
    ensemble_top: int = 0
    ensemble_threshold: float = 0.0
    random_baseline_draws: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: a setting is out of its range.
        """
        expected = {
            "estimator": (self.estimator in ESTIMATORS, _one_of(ESTIMATORS)),
            "method": (self.method in METHODS, _one_of(METHODS)),
            "ridge": (SMALLEST_RIDGE <= self.ridge < inf, f"a number of at least {SMALLEST_RIDGE}"),
            "ridge_scaling": (self.ridge_scaling in RIDGE_SCALINGS, _one_of(RIDGE_SCALINGS)),
            "stopping": (self.stopping in STOPPING_RULES, _one_of(STOPPING_RULES)),
            "max_tasks": (self.max_tasks >= 0, "at least 0"),
            "max_rows": (self.max_rows >= 0, "at least 0"),
            "random_subsets": (self.random_subsets >= 1, "at least 1"),
            "subset_fraction": (0 < self.subset_fraction <= 1, "a number above 0 and at most 1"),
            "ensemble_top": (self.ensemble_top >= 0, "at least 0"),
            "ensemble_threshold": (isfinite(self.ensemble_threshold), "a number"),
            "random_baseline_draws": (self.random_baseline_draws >= 1, "at least 1"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (fine, words) in expected.items():
            if not fine:
                raise InputError(f"{name} is {getattr(self, name)!r}: expected {words}.")
        self._check_tasks()

    def _check_tasks(self) -> None:
        for name in ("required_tasks", "excluded_tasks"):
            tasks = getattr(self, name)
            for task in tasks:
                if tasks.count(task) > 1:
                    raise InputError(f"{name} holds {task!r} more than once: expected each task once.")
        for task in self.required_tasks:
            if task in self.excluded_tasks:
                raise InputError(
                    f"required_tasks holds {task!r}, which excluded_tasks holds too: expected it in one of them."
                )
        if 0 < self.max_tasks < len(self.required_tasks):
            raise InputError(
                f"max_tasks is {self.max_tasks}: expected at least the {len(self.required_tasks)} required tasks."
            )


def _one_of(choices: tuple[str, ...]) -> str:
    return "one of " + ", ".join(choices)
