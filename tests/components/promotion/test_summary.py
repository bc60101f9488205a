"""How a run says that it ended."""

from pathlib import Path

import pytest
from evaluation_output import evaluation

from gradsift.components.promotion.summary import summary_of, unchanged
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.parameters.promotion import PromotionConfig


@pytest.fixture
def model(tmp_path: Path) -> StepOutput:
    return StepOutput(f"{tmp_path}/fine_tuned_models/1", "0f", {})


def test_it_names_selection_gain_report_model_and_what_was_registered(
    tmp_path: Path, model: StepOutput
) -> None:
    made = evaluation(tmp_path, ["mr_flipped", "trec"])
    key = Path(made.uri).name
    text = summary_of(made, model, "Version 7 of my_model is champion.")
    assert text.splitlines() == [
        "# Fine-tuned for sst2",
        "",
        r"- **Selected**: mr\_flipped, trec",
        r"- **Gain**: It gained 2.1 points over target\_only.",
        f"- **Run root**: `{tmp_path}`",
        f"- **Report**: artifact `report` of the task `evaluate`; in the run root `evaluation/{key}/report.html`",
        "- **Model**: in the run root `fine_tuned_models/1`",
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
