"""Which layers were tried, and which of them were chosen: the model of `scope_sweep.json`."""

from typing import Annotated, ClassVar

from pydantic import Field, FiniteFloat, NonNegativeInt

from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.fine_tuning_runs import Layers
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile


class TriedLayers(Record):
    """One way to fine-tune on the chosen sources.

    Attributes:
        layers: which layers were trained, and how fast.
        trained_parameters: their number; None where only rates were tried.
        seconds: duration of training and validation.
        val_loss: mean loss of the target's validation rows.
        standard_error: its standard error.
        difference: mean over validation rows of the loss less that of the reference, with its 95% interval.
        chosen: whether it is the choice.
    """

    layers: Layers
    trained_parameters: NonNegativeInt | None
    seconds: NonNegative
    val_loss: FiniteFloat
    standard_error: NonNegative
    difference: Interval
    chosen: bool


class ScopeSweep(ResultFile):
    """`scope_sweep.json`: every scope at every rate, and the choice among them.

    Attributes:
        tried: all of them, the lowest validation loss first.
        reference: what differences are to: all layers at their best rate, or the lowest loss where all layers were
            not tried.
        reason: in plain words, why the chosen one.
    """

    FILE: ClassVar[str] = "scope_sweep.json"

    tried: Annotated[list[TriedLayers], Field(min_length=2)]
    reference: Layers
    reason: str

    @property
    def chosen(self) -> TriedLayers:
        """The choice."""
        return next(each for each in self.tried if each.chosen)
