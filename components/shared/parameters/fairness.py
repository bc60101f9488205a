"""Which two groups of rows are compared, and how far a model may treat them differently."""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field

from gradsift.components.shared.parameters.settings import Settings

Space = Literal["margin", "probability"]
PART_SEPARATOR = "|"
"""Stands between the parts of a row's group, such as `female|white`."""
ENCODER_EXPECTED = (
    "expected an encoder where fairness_group is set, as a language model gives no score to a label that is not "
    "the right one."
)


class FairnessConfig(Settings):
    """Which two groups of the target's rows are compared, and the limit on their covariance with the decision."""

    GROUP: ClassVar[str] = "fairness"

    group: str = Field(
        "",
        exclude_if=lambda group: not group,
        description="a value of the rows' field `group`, or one of its parts between `|`. Rows of this group are "
        "compared with all others that have a group. Empty compares nothing and limits nothing.",
    )
    positive: str = Field(
        "",
        exclude_if=lambda label: not label,
        description="name of the target's favourable label; required with `fairness_group`.",
    )
    limit: float = Field(
        0.05,
        ge=0,
        le=1e6,
        exclude_if=lambda limit: limit == 0.05,
        description="largest absolute value of the decision boundary covariance that training aims at; 0 sets no "
        "limit and only measures.",
    )
    space: Space = Field(
        "margin",
        exclude_if=lambda space: space == "margin",
        description="what should not vary with the group: `margin`, the score of the favourable label minus that "
        "of the other label; or `probability`, the probability of the favourable label.",
    )
    dual_rate: float = Field(
        0.1,
        gt=0,
        le=1e6,
        exclude_if=lambda rate: rate == 0.1,
        description="how much a training step changes the limit's multipliers, per unit of covariance above the "
        "limit.",
    )
    limit_estimate: float = Field(
        0.0,
        ge=0,
        le=1,
        exclude_if=lambda limit: limit == 0,
        description="limit on the absolute value of a chosen subset's estimated gap: the group's mean probability "
        "of the favourable label minus that of the others. 0 sets no limit.",
    )

    @property
    def in_training(self) -> Self | None:
        """The settings that training depends on; None where they set no limit."""
        if not self.group or not self.limit:
            return None
        return self.model_copy(update={"limit_estimate": 0.0})

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if self.group and not self.positive:
            yield (
                "Parameter fairness_positive is '': expected the name of the favourable label, as fairness_group "
                "is set."
            )
        if not self.group:
            for name, value in self.changes().items():
                yield (
                    f"Parameter fairness_group is '': expected a group of the target's rows where "
                    f"fairness_{name} is {value!r}."
                )
        if PART_SEPARATOR in self.group:
            yield (
                f"Parameter fairness_group is {self.group!r}: expected one group, such as "
                f"{self.group.split(PART_SEPARATOR)[0]!r}."
            )
