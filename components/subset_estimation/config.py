"""The settings of the estimation step."""

from dataclasses import dataclass
from math import inf

from gradsift.components.shared.errors import InputError

ESTIMATORS = ("gauss_newton", "logistic")
METHODS = ("forward_stepwise", "random_ensemble", "best_of_m")
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
        random_subsets: m, the number of random subsets behind random ensemble and best of m.
        subset_fraction: size of a random subset as a share of the auxiliary tasks.
        ensemble_top: how many tasks random ensemble keeps; 0 keeps those with a positive score.
        random_baseline_draws: random subsets of the selection's size that the random baseline is the mean of.
        seed: seed of the random subsets.
    """

    estimator: str = "gauss_newton"
    method: str = "forward_stepwise"
    ridge: float = 10.0
    ridge_scaling: str = "per_row"
    random_subsets: int = 1000
    subset_fraction: float = 0.5
    ensemble_top: int = 0
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
            "random_subsets": (self.random_subsets >= 1, "at least 1"),
            "subset_fraction": (0 < self.subset_fraction <= 1, "a number above 0 and at most 1"),
            "ensemble_top": (self.ensemble_top >= 0, "at least 0"),
            "random_baseline_draws": (self.random_baseline_draws >= 1, "at least 1"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for field, (fine, words) in expected.items():
            if not fine:
                raise InputError(f"{field} is {getattr(self, field)!r}: expected {words}.")


def _one_of(choices: tuple[str, ...]) -> str:
    return "one of " + ", ".join(choices)
