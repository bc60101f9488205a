"""Which of two models is better by their answers to the same test rows."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.promotion.comparison import Comparison, compare
from gradsift.components.shared.metrics.scores import LabelScores, RowScores, Scores, written_scores
from gradsift.components.shared.parameters.promotion import PromotionConfig


def labelled(right: int, rows: int) -> LabelScores:
    """A model that gives the right label to the first `right` of `rows` rows."""
    given_labels = (np.arange(rows) >= right).astype(np.int64)
    return LabelScores(np.full(rows, 0.5), given_labels, np.zeros(rows, dtype=np.int64), 2)


def compared(
    candidate: Scores, champion: Scores, min_gain: float = 0.0, confidence: float = 0.9
) -> Comparison:
    return compare(
        PromotionConfig(model_name="model", min_gain=min_gain, confidence=confidence), candidate, champion
    )


@pytest.mark.parametrize("confidence", [0.0, 0.9])
def test_a_tie_is_not_promoted(confidence: float) -> None:
    found = compared(labelled(80, 100), labelled(80, 100), confidence=confidence)
    assert (found.gain, found.promoted, found.reason) == (0, False, "it is not better")


def test_a_gain_inside_the_noise_is_promoted_only_where_no_interval_is_asked_for() -> None:
    found = compared(labelled(82, 100), labelled(81, 100))
    assert (found.promoted, found.reason) == (False, "its gain may be chance")
    assert found.text("version 1") == (
        "accuracy 82.00% against 81.00% of version 1 on the same 100 test rows, a difference of +1.00 points "
        "(90% interval +0.00 to +3.00)"
    )
    anyhow = compared(labelled(82, 100), labelled(81, 100), confidence=0)
    assert (anyhow.promoted, anyhow.reason) == (True, "it is better")
    assert anyhow.text("version 1").endswith("a difference of +1.00 points, no interval asked for")


def test_a_clear_gain_is_promoted_and_recorded() -> None:
    found = compared(labelled(90, 100), labelled(80, 100), min_gain=0.02)
    assert (found.promoted, found.reason) == (True, "it is clearly better")
    assert found.interval is not None
    # The standard error of a difference that is 1 in one row of ten, and 0 in the others.
    error = math.sqrt(0.1 * 0.9 / 100)
    assert found.interval.low == pytest.approx(0.1 - 1.645 * error, abs=0.015)
    assert found.interval.high == pytest.approx(0.1 + 1.645 * error, abs=0.015)
    tags = {name.removeprefix("gradsift."): json.loads(value) for name, value in found.tags().items()}
    assert tags == {
        "metric": "accuracy",
        "test_rows": 100,
        "score": 0.9,
        "champion_score": 0.8,
        "gain": 0.1,
        "gain_interval": [found.interval.low, found.interval.high],
        "min_gain": 0.02,
        "confidence": 0.9,
    }
    assert set(found.numbers()) == {"score", "champion_score", "gain", "gain_low", "gain_high"}


@pytest.mark.parametrize(("rows", "promoted"), [(1, False), (29, False), (30, True)])
def test_few_rows_cannot_tell_which_is_better(rows: int, promoted: bool) -> None:
    found = compared(labelled(rows, rows), labelled(0, rows))
    assert found.promoted is promoted
    assert promoted or found.reason == "fewer than 30 test rows cannot tell whether it is better"
    assert compared(labelled(rows, rows), labelled(0, rows), confidence=0).promoted


@pytest.mark.parametrize(("min_gain", "promoted"), [(0.05, True), (0.06, False)])
def test_a_gain_has_to_reach_what_is_asked_for(min_gain: float, promoted: bool) -> None:
    """0.85 - 0.8 is less than 0.05 in floating-point numbers."""
    found = compared(labelled(85, 100), labelled(80, 100), min_gain)
    assert found.promoted is promoted
    assert promoted or found.reason == "it is better by less than the 6.00 points asked for"


def test_rows_that_both_find_hard_do_not_widen_the_interval() -> None:
    """Of rows drawn for each model by itself, 60 against 50 of 100 right would reach below zero."""
    found = compared(labelled(60, 100), labelled(50, 100))
    assert found.interval is not None
    assert found.interval.low > 0.04


@pytest.mark.parametrize(
    ("references", "better", "metric"),
    [
        (["12", "7", "1,000"] * 20, "the answer is {}", "numeric_match"),
        (["a cat", "dogs"] * 30, "{}", "rouge_l"),
    ],
)
def test_written_answers_are_judged_by_their_own_metric(
    references: list[str], better: str, metric: str
) -> None:
    """A model whose every token is likelier, but that writes something else, is not better."""
    right, wrong = [better.format(each) for each in references], ["-1 or so"] * len(references)
    tokens = np.linspace(0, 1, len(references))
    expected = [[each] for each in references]
    candidate = written_scores(tokens + 2, tokens / 2, right, expected)
    champion = written_scores(tokens, tokens, wrong, expected)
    assert "accuracy" not in candidate.values
    found = compared(candidate, champion)
    assert (found.metric, found.score, found.champion_score, found.promoted) == (metric, 1, 0, True)
    assert not compared(champion, candidate).promoted


@st.composite
def two_models(draw: st.DrawFn) -> tuple[Scores, Scores]:
    """Two models' scores of the same rows: of labels, or of written answers between right and wrong."""
    rows = draw(st.integers(1, 40))
    kinds = [st.booleans(), st.floats(0, 1)]
    kind = draw(st.sampled_from(kinds))
    values = [np.array(draw(st.lists(kind, min_size=rows, max_size=rows)), dtype=float) for _ in range(2)]
    if kind is kinds[1]:
        first, second = (RowScores({"loss": np.ones(rows), "rouge_l": each}) for each in values)
        return first, second
    wrong = [1 - each.astype(np.int64) for each in values]
    one, other = (LabelScores(np.ones(rows), each, np.zeros(rows, dtype=np.int64), 2) for each in wrong)
    return one, other


@given(two_models(), st.sampled_from([0.0, 0.01, 0.3]), st.sampled_from([0.0, 0.5, 0.9]))
def test_two_models_are_never_both_better_than_each_other(
    models: tuple[Scores, Scores], min_gain: float, confidence: float
) -> None:
    one, other = models
    there, back = compared(one, other, min_gain, confidence), compared(other, one, min_gain, confidence)
    assert not (there.promoted and back.promoted)
    assert there.gain == -back.gain
    assert there.promoted is False or there.score > there.champion_score
    if there.gain and not confidence and not min_gain:
        assert there.promoted or back.promoted
