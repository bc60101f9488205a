import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from gradsift.components.evaluation.report.charts import (
    Axis,
    axis_labels,
    axis_over,
    bar_row,
    interval_row,
    path_row,
    share_bar,
)

numbers = st.floats(-1e9, 1e9, allow_nan=False)
errors = st.floats(0, 1e9, allow_nan=False)


def percents(svg: Markup) -> list[float]:
    return [float(number) for number in re.findall(r'="(-?[\d.e+-]+|nan|inf)%"', svg)]


def marks(svg: Markup, css_class: str) -> list[dict[str, str]]:
    return [mark.attrib for mark in ElementTree.fromstring(svg) if mark.get("class") == css_class]


def assert_drawable(svg: Markup) -> None:
    ElementTree.fromstring(svg)
    assert "nan" not in svg
    assert "inf" not in svg
    assert all(0 <= number <= 100 for number in percents(svg))


@given(st.lists(numbers, min_size=1), st.booleans())
def test_axis_covers_its_values_in_their_order(values: list[float], with_zero: bool) -> None:
    axis = axis_over(values, with_zero=with_zero)
    places = [axis.percent(value) for value in sorted(values)]
    assert all(axis.covers(value) for value in values)
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] <= 100
    assert axis.covers(0.0) or not with_zero


@given(st.lists(numbers), st.sampled_from([1.0, 100.0]))
def test_axis_has_three_to_five_ticks_with_distinct_labels(values: list[float], label_scale: float) -> None:
    axis = axis_over(values, label_scale=label_scale)
    labels = [axis.tick_label(tick) for tick in axis.ticks]
    assert 3 <= len(labels) <= 5
    assert len(set(labels)) == len(labels)
    assert all(axis.covers(tick) for tick in axis.ticks)


@pytest.mark.parametrize(
    ("values", "label_scale", "labels"),
    [
        ([0.86, 0.93], 100, ["87.5", "90.0", "92.5"]),
        ([-0.07, 0.06], 1, ["\N{MINUS SIGN}0.05", "0.00", "0.05"]),
        ([0.4], 1, ["0.3995", "0.4000", "0.4005"]),
        ([], 1, ["\N{MINUS SIGN}0.0005", "0.0000", "0.0005"]),
    ],
)
def test_tick_labels_are_round_numbers(values: list[float], label_scale: float, labels: list[str]) -> None:
    axis = axis_over(values, label_scale=label_scale)
    assert [axis.tick_label(tick) for tick in axis.ticks] == labels


def test_axis_labels_stand_at_their_ticks() -> None:
    axis = axis_over([0.36, 0.45])
    texts = ElementTree.fromstring(axis_labels(axis))
    assert [(text.text, text.get("x")) for text in texts] == [
        (axis.tick_label(tick), f"{axis.percent(tick)}%") for tick in axis.ticks
    ]


@given(st.lists(numbers, min_size=1), numbers, errors)
def test_rows_stay_inside_the_cell_whatever_the_values(
    values: list[float], value: float, error: float
) -> None:
    axis = axis_over(values)
    assert_drawable(axis_labels(axis))
    assert_drawable(bar_row(axis, value, error, title="bar"))
    assert_drawable(interval_row(axis, value, value - error, value + error, dots=values, title="interval"))
    assert_drawable(path_row(axis, value, error, values[0], title="path"))


AXIS = Axis(-1.0, 3.0, (-1.0, 1.0, 3.0), 0, 1.0)


def test_bar_reaches_from_zero_to_its_value_on_either_side() -> None:
    right = marks(bar_row(AXIS, 2.0, title="help"), "bar solid")[0]
    left = marks(bar_row(AXIS, -1.0, solid=False, title="harm"), "bar hollow")[0]
    assert (right["x"], right["width"]) == ("25.0%", "50.0%")
    assert (left["x"], left["width"]) == ("0.0%", "25.0%")


def test_error_line_is_centred_on_the_value_and_absent_without_error() -> None:
    line = marks(bar_row(AXIS, 1.0, 0.4, title="bar"), "error")[0]
    assert (line["x1"], line["x2"]) == ("40.0%", "60.0%")
    assert not marks(bar_row(AXIS, 1.0, title="bar"), "error")


def test_interval_shows_band_mean_and_single_runs() -> None:
    svg = interval_row(AXIS, 1.0, 0.0, 2.0, dots=[0.5, 1.5], zero=True, strong=True, title="interval")
    assert marks(svg, "band strong")[0]["x"] == "25.0%"
    assert marks(svg, "band strong")[0]["width"] == "50.0%"
    assert [mark["cx"] for mark in marks(svg, "dot strong")] == ["50.0%"]
    assert [mark["cx"] for mark in marks(svg, "ring")] == ["37.5%", "62.5%"]
    assert marks(svg, "zero")[0]["x1"] == "25.0%"


def test_path_starts_and_ends_at_a_mark_and_comes_from_the_row_above() -> None:
    first, between = path_row(AXIS, 3.0, 0.1, None, title="0"), path_row(AXIS, 1.0, 0.1, 3.0, title="1")
    last = path_row(AXIS, 0.0, 0.1, 1.0, last=True, title="2")
    assert [(way["y1"], way["y2"]) for way in marks(first, "way")] == [("50%", "100%")]
    across, down = marks(between, "way")
    assert (across["x1"], across["x2"], across["y1"]) == ("100.0%", "50.0%", "0")
    assert (down["x1"], down["y1"], down["y2"]) == ("50.0%", "0", "100%")
    assert marks(last, "way")[1]["y2"] == "50%"


def test_chosen_step_has_a_mark_of_its_own() -> None:
    rows = [path_row(AXIS, 1.0, 0.1, None, chosen=chosen, title="step") for chosen in (True, False)]
    assert [len(marks(row, "dot chosen")) for row in rows] == [1, 0]
    assert [len(marks(row, "dot strong")) for row in rows] == [0, 1]


@pytest.mark.parametrize(("share", "width"), [(0.0, "0.0%"), (0.425, "42.5%"), (1.0, "100.0%")])
def test_share_bar_is_as_long_as_its_share(share: float, width: str) -> None:
    assert marks(share_bar(share), "part")[0]["width"] == width


def test_title_is_escaped() -> None:
    svg = bar_row(AXIS, 1.0, title="<script>alert(1)</script>")
    assert "<script>" not in svg
    assert ElementTree.fromstring(svg)[0].text == "<script>alert(1)</script>"
