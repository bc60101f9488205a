"""How a run says that it ended."""

from pathlib import Path

import pytest

from gradsift.components.promotion.summary import summary_of, unchanged
from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.records.evaluation_results import (
    EvaluatedModel,
    Evaluation,
    Interval,
    SeedRun,
    Verdict,
)


@pytest.fixture
def model(tmp_path: Path) -> StepOutput:
    return StepOutput(f"{tmp_path}/fine_tuned_models/1", "0f", {})


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


def test_it_names_selection_gain_report_model_and_what_was_registered(
    tmp_path: Path, model: StepOutput
) -> None:
    made = evaluation(tmp_path, ["mr_flipped", "trec"])
    text = summary_of(made, model, "Version 7 of my_model is champion.")
    assert text.splitlines() == [
        "# Fine-tuned for sst2",
        "",
        r"- **Selected**: mr\_flipped, trec",
        r"- **Gain**: It gained 2.1 points over target\_only.",
        f"- **Report**: artifact `report` of the task `evaluate`, and `{made.uri}/report.html`",
        f"- **Model**: `{model.uri}`",
        r"- **Registered**: Version 7 of my\_model is champion.",
    ]


def test_a_run_that_selects_and_registers_nothing_says_so(tmp_path: Path, model: StepOutput) -> None:
    text = summary_of(evaluation(tmp_path, []), model, None)
    assert "- **Selected**: no source\n" in text
    assert "- **Registered**: no, as `promote_model_name` is empty\n" in text


def test_a_run_with_nothing_new_names_the_registered_model() -> None:
    text = unchanged(PromotionConfig(model_name="my_model"))
    assert text.startswith("# Nothing new\n")
    assert r"registered model my\_model: nothing was trained." in text
