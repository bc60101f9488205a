"""What speaks against a verdict, and what a reader is told first."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from gradsift.components.evaluation.report.doubts import cautions, objections
from gradsift.components.evaluation.report.report import ReportContent, render_report
from gradsift.components.evaluation.report.report_words import headline
from gradsift.components.evaluation.report.verdict import judge
from gradsift.components.shared.records.evaluation_results import (
    Difference,
    EvaluatedModel,
    Interval,
)

CONTENT = json.loads((Path(__file__).parent / "report_content.json").read_text(encoding="utf-8"))
METRIC = "rouge_l"


def exactly(value: float) -> Interval:
    return Interval(mean=value, low=value, high=value)


def model(share: float = 0.5, estimate: float = 0.5, truth: float = 0.5) -> EvaluatedModel:
    return EvaluatedModel(
        name="selected",
        subset=[],
        runs=[],
        test={"loss": exactly(0.5), METRIC: exactly(share)},
        true_val_loss=truth,
        true_val_loss_sd=0.0,
        estimated_loss=estimate,
        estimated_standard_error=0.0,
    )


def difference(loss: float = -0.1, share: float = 0.1) -> Difference:
    return Difference(name="all", test={"loss": exactly(loss), METRIC: exactly(share)})


def test_nothing_speaks_against_a_usual_verdict() -> None:
    assert objections(model(), [difference()], 30) == []
    assert cautions([model(estimate=0.4)], 30) == []


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (1, "1 test row is too few for a verdict: 30 are needed."),
        (29, "29 test rows are too few for a verdict: 30 are needed."),
    ],
)
def test_few_test_rows(rows: int, sentence: str) -> None:
    assert objections(model(), [difference()], rows) == [sentence]


def test_no_right_answer() -> None:
    [sentence] = objections(model(share=0.0), [difference(share=0.0)], 100)
    assert sentence == "No test answer of the chosen model is right: its ROUGE-L is 0%."


@pytest.mark.parametrize(("loss", "share", "side"), [(-0.1, -0.1, "lower"), (0.1, 0.1, "higher")])
def test_metrics_that_contradict_each_other(loss: float, share: float, side: str) -> None:
    [sentence] = objections(model(), [difference(loss, share), difference()], 100)
    assert sentence.endswith(f"in comparison with 'all': test loss and ROUGE-L are both {side}.")


def test_an_objection_takes_the_help_away_and_stands_in_the_verdict() -> None:
    found = objections(model(), [difference()], 1)
    assert judge([difference()], 2, []).helped
    verdict = judge([difference()], 2, found)
    assert not verdict.helped
    assert verdict.text.startswith("The selection did not clearly help: lower test loss than all sources (")
    assert verdict.text.endswith(found[0])


@pytest.mark.parametrize(
    ("estimate", "truth", "wrong"),
    [(46, 0.47, True), (0.05, 2.0, True), (0.02, 0.001, False), (4.0, 0.47, False), (0.0, 0.0, False)],
)
def test_estimates_that_are_off_by_orders(estimate: float, truth: float, wrong: bool) -> None:
    found = cautions([model(estimate=estimate, truth=truth)], 100)
    assert len(found) == wrong
    if wrong:
        assert f"is {estimate:.4g}, its true loss {truth:.4g}: the estimates do not describe" in found[0]


def test_answers_that_are_never_as_expected() -> None:
    never = model().model_copy(update={"test": {**model().test, "exact_match": exactly(0.0)}})
    [sentence] = cautions([never, never], 100)
    assert "exact match is 0%" in sentence
    once = model().model_copy(update={"test": {**model().test, "exact_match": exactly(0.1)}})
    assert cautions([never, once], 100) == []


def test_few_validation_rows() -> None:
    [sentence] = cautions([model()], 2)
    assert sentence.startswith("The choice rests on few validation rows: 2, where 30 are needed")


@pytest.mark.parametrize(("rows", "badge"), [(1, "No clear gain"), (1000, "Selection did worse")])
def test_few_rows_do_not_say_worse_either(rows: int, badge: str) -> None:
    content = deepcopy(CONTENT)
    worse = content["evaluation"]["difference_to"][0]["test"]
    worse["loss"] = {"mean": 0.1, "low": 0.1, "high": 0.1}
    content["evaluation"] |= {"test_rows": rows, "verdict": {"helped": False, "text": "It did not help."}}
    report = ReportContent(**content)
    assert headline(report.selection, report.evaluation).badge == badge


def test_the_report_says_it_at_its_top() -> None:
    content = deepcopy(CONTENT)
    content["evaluation"]["cautions"] = ["The first <b>caution</b>.", "The second caution."]
    top, *_ = render_report(ReportContent(**content)).partition("<section")
    for words in ("The first &lt;b&gt;caution&lt;/b&gt;.", "The second caution."):
        assert words in top
