"""Which registered model a run makes a version of, and what its champion has to be beaten by."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from gradsift.components.shared.parameters.settings import Settings, form_field


class PromotionConfig(Settings):
    """Which registered model a run makes a version of, and what its champion has to be beaten by."""

    GROUP: ClassVar[str] = "promote"

    model_name: str = form_field(
        "promote_model_name",
        "",
        description="registered model in MLflow that the fine-tuned model becomes a version of, by the "
        "aliases `candidate` and `champion`; a run whose data and settings are those of a "
        "version that was judged ends early. Empty registers nothing.",
    )
    min_gain: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="what a candidate's accuracy on the target's test split must be above the champion's, on"
        " the same rows, to take its place; 0 lets an equal one, a negative number a slightly "
        "worse one.",
    )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if any(character in self.model_name for character in "/:'\"\n"):
            yield (
                f"Parameter promote_model_name is {self.model_name!r}: expected a name without '/', ':' and quotes."
            )
