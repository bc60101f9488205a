"""What the estimates expand around, as outputs of the steps before."""

from dataclasses import dataclass

from gradsift.components.shared.artifacts.step_output import StepOutput


@dataclass(frozen=True)
class Expansion:
    """What the estimates expand around.

    Attributes:
        model: theta*, at which they take their gradients.
        gradients: the gradient store, which says how these are projected.
    """

    model: StepOutput
    gradients: StepOutput
