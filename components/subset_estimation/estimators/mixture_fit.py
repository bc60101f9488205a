"""What fine-tuning runs say of a mixture of estimates: first its level, then its slope, and slowly its weights.

With the members' estimates e_j(S), their mean e(S) and the true losses y(S) of K runs,

    y(S) = level + slope (e(S) - c) + sum_j deviation_j (e_j(S) - e(S) - c_j) + noise,

c and c_j the means over the runs. The level is free, the slope has the prior N(1, SLOPE^2), and the deviations,
which move the weights away from equal, have N(0, WEIGHT^2 / J). This is Bayesian linear regression (Bishop, Pattern
Recognition and Machine Learning, section 3.3), a Gaussian process over subsets whose kernel is linear in the
members' estimates. Two runs that hardly differ leave the slope at 1, and weights move as runs accumulate.
"""

from dataclasses import dataclass

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray

SLOPE, WEIGHT = 0.25, 0.5
NOISE = 0.1
"""Standard deviation of a true loss about the mixture's, as a share of it: what no member knows, and the seed."""


@dataclass(frozen=True)
class MixtureFit:
    """The corrected mixture: intercept + weights.e(S).

    Attributes:
        weights: [J], one for each member.
        intercept: in nats.
    """

    weights: FloatArray
    intercept: float

    @property
    def slope(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    @property
    def shares(self) -> FloatArray:
        """The members' shares [J] of the slope, which sum to 1."""
        return self.weights / self.slope

    def of(self, estimates: FloatArray) -> FloatArray:
        """Return the losses [K] for members' estimates [J, K]."""
        losses: FloatArray = self.intercept + self.weights @ estimates
        return losses


def fit_mixture(estimates: FloatArray, true: FloatArray) -> MixtureFit:
    """Fit the members' estimates [J, K] to the true losses [K] of one run or more."""
    members = len(estimates)
    mean = estimates.mean(axis=0)
    terms = np.vstack([mean, estimates - mean])
    centred = terms - terms.mean(axis=1, keepdims=True)
    prior = np.append(1.0, np.zeros(members))
    variance = np.append(SLOPE**2, np.full(members, WEIGHT**2 / members))
    noise = (NOISE * true.mean()) ** 2
    covariance = (centred.T * variance) @ centred + noise * np.eye(len(true))
    surprise = true - true.mean() - prior @ centred
    coefficients = prior + variance * (centred @ np.linalg.solve(covariance, surprise))
    slope, deviations = coefficients[0], coefficients[1:]
    weights = slope / members + deviations - deviations.mean()
    return MixtureFit(weights, float(true.mean() - weights @ estimates.mean(axis=1)))


def left_out_losses(estimates: FloatArray, true: FloatArray) -> FloatArray:
    """Return each run's loss [K] as the others' correction predicts it; of a single run, its estimate."""
    if len(true) == 1:
        return estimates.mean(axis=0)
    others = ~np.eye(len(true), dtype=bool)
    fits = [fit_mixture(estimates[:, own], true[own]) for own in others]
    return np.array([fit.of(estimates[:, [run]])[0] for run, fit in enumerate(fits)])
