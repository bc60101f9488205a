"""The output of an evaluation step, as small as it can be."""

from pathlib import Path

from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.records.evaluation_results import (
    EvaluatedModel,
    Evaluation,
    Interval,
    SeedRun,
    Verdict,
)


def evaluation(root: Path, subset: list[str]) -> StepOutput:
    exact = {name: Interval(mean=0.5, low=0.4, high=0.6) for name in ("loss", "accuracy")}
    selected = EvaluatedModel(
        name="selected",
        subset=subset,
        runs=[SeedRun(seed=0, val_loss=0.5, test={"loss": 0.5, "accuracy": 0.5})],
        test=exact,
        true_val_loss=0.5,
        true_val_loss_sd=0.0,
        estimated_loss=0.5,
        estimated_standard_error=0.0,
    )
    found = Evaluation(
        target="sst2",
        labels=["no", "yes"],
        val_rows=1,
        test_rows=1,
        optimizer_steps=1,
        batch_size=1,
        seeds=1,
        models=[selected],
        base_model=None,
        confusion=None,
        spearman=None,
        verdict=Verdict(helped=True, text="It gained 2.1 points over target_only."),
        difference_to=[],
    )

    def work(folder: Path) -> dict[str, object]:
        found.write(folder)
        return {}

    return produce(str(root), "evaluation", {"subset": subset}, work)
