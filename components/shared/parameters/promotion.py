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
        ge=0,
        le=1,
        description="how much better than the champion a candidate must be on the target's test rows to take "
        "its place, as a share from 0 to 1 of the metric that the target is judged by (accuracy, numeric match "
        "or ROUGE-L); an equal one never takes it.",
    )
    confidence: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="the gain's paired bootstrap interval of this confidence, such as 0.9, must lie above "
        "zero; 0 looks at no interval.",
    )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        if any(character in self.model_name for character in "/:'\"\n"):
            yield (
                f"Parameter promote_model_name is {self.model_name!r}: expected a name without '/', ':' and quotes."
            )
