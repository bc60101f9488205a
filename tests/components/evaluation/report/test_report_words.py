from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.evaluation.report import report_words as words
from gradsift.components.evaluation.report.charts import MINUS
from gradsift.components.shared.records.evaluation_results import Interval
from gradsift.components.shared.records.selection_results import Calibration


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.percent(0.91349), "91.3%"),
        (words.percent(1), "100.0%"),
        (words.points(0.0182), "+1.8"),
        (words.points(-0.0034), MINUS + "0.3"),
        (words.points(-0.0001), "0.0"),
        (words.nats(0.41208), "0.4121"),
        (words.nats(1234.5), "1,234.5000"),
        (words.signed_nats(-0.02134), MINUS + "0.0213"),
        (words.signed_nats(0.00001), "0.0000"),
        (words.correlation(-0.2), MINUS + "0.20"),
        (words.correlation(0.8), "0.80"),
        (words.count(2048), "2,048"),
        (words.count(17.5), "17.5"),
        (words.duration(0.421), "0.42 s"),
        (words.duration(12.34), "12.3 s"),
        (words.duration(59.99), "1 min 00 s"),
        (words.duration(252), "4 min 12 s"),
        (words.duration(3599.9), "1 h 00 min"),
        (words.duration(3840), "1 h 04 min"),
        (words.setting("text"), "text"),
        (words.setting([1, None, True]), "[1, null, true]"),
        (words.named("forward_stepwise"), "Forward stepwise"),
        (words.named("my_method"), "my_method"),
        (words.named("step 12"), "Step 12 of the search"),
        (words.wrappable("a_<b>"), "a_<wbr>&lt;b&gt;"),
        (words.member_words("ridge 3"), "Ridge regression, c = 3"),
        (
            words.member_words("rate x0.25, alpha 0.75"),
            "Simulated run, 0.25 times the matched length; gradients 75% at theta*, the rest at the base weights",
        ),
    ],
)
def test_one_thing_is_written_in_one_way(written: str, expected: str) -> None:
    assert written == expected


def test_ranks_are_written_as_ordinals() -> None:
    ranks = [1, 2, 3, 4, 11, 12, 13, 21, 22, 103, 111]
    written = " ".join(words.ordinal(rank) for rank in ranks)
    assert written == "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 103rd 111th"


@pytest.mark.parametrize(
    "time",
    [
        datetime(2026, 3, 5, 18, 4, tzinfo=UTC),
        datetime(2026, 3, 5, 18, 4),
        datetime(2026, 3, 5, 20, 4, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_time_is_written_in_utc(time: datetime) -> None:
    assert words.moment(time) == "5 March 2026, 18:04 UTC"


@pytest.mark.parametrize(
    ("low", "high", "more_is_better", "claim"),
    [
        (0.01, 0.03, True, "better"),
        (0.01, 0.03, False, "worse"),
        (-0.03, -0.01, True, "worse"),
        (-0.03, -0.01, False, "better"),
        (-0.01, 0.03, True, "no clear difference"),
        (0.0, 0.03, True, "no clear difference"),
    ],
)
def test_claims_need_an_interval_off_zero(low: float, high: float, more_is_better: bool, claim: str) -> None:
    interval = Interval(mean=(low + high) / 2, low=low, high=high)
    assert words.difference_words(interval, more_is_better=more_is_better) == claim


def calibration(error: float, constant: float) -> Calibration:
    return Calibration(
        runs=[],
        estimator="gauss_newton",
        ridge=0.1,
        expansion="theta*",
        slope=1.0,
        intercept=0.0,
        spearman=None,
        kendall=None,
        error_raw=0.5,
        error_calibrated=error,
        error_constant=constant,
    )


def test_calibrated_error_is_told_beside_that_of_the_mean() -> None:
    good, bad = (
        words.calibration_words(calibration(0.03, 0.12)),
        words.calibration_words(calibration(0.12, 0.11)),
    )
    assert good == (
        "Calibrated, an estimate is off by 3.0% on average; always predicting the mean of the runs would be off "
        "by 12.0%."
    )
    assert "no less than the 11.0% of always predicting the mean" in bad
    assert "trust the order of the estimates at most" in bad


@given(st.floats(-1e12, 1e12, allow_nan=False))
def test_written_losses_keep_their_value(value: float) -> None:
    written: Any = words.signed_nats(value).replace(MINUS, "-").replace(",", "")
    assert float(written) == pytest.approx(value, abs=5.1e-5, rel=1e-12)
    assert written[0] in "+-" or float(written) == 0
