from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.evaluation.report.labels import LETTER_WIDTH
from gradsift.components.evaluation.report.scatter import PLOT, SCATTER_HEIGHT, SCATTER_WIDTH, Point, scatter

numbers = st.floats(-1e6, 1e6, allow_nan=False)
errors = st.floats(0, 1e6, allow_nan=False)
names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=60)
points = st.builds(Point, names, numbers, errors, numbers, errors, st.booleans())


def drawn(*points: Point, diagonal: bool = False, noise: float = 0.0) -> ElementTree.Element:
    return ElementTree.fromstring(
        scatter(
            "name",
            points,
            x_title="x",
            y_title="y",
            description="what it shows",
            diagonal=diagonal,
            noise=noise,
        )
    )


def circles(svg: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(mark.get("cx", "")), float(mark.get("cy", ""))) for mark in svg.iter("circle")]


def corners(svg: ElementTree.Element) -> list[tuple[float, float]]:
    (band,) = (mark.get("points", "") for mark in svg.iter("polygon"))
    return [(float(x), float(y)) for x, y in (corner.split(",") for corner in band.split())]


@given(st.lists(points, max_size=8), st.booleans(), errors)
def test_everything_is_inside_the_view_box(points: list[Point], diagonal: bool, noise: float) -> None:
    svg = drawn(*points, diagonal=diagonal, noise=noise)
    if diagonal and noise:
        assert all(PLOT.left <= x <= PLOT.right and PLOT.top <= y <= PLOT.bottom for x, y in corners(svg))
    for mark in svg.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert 0 <= float(mark.get(name, 0)) <= SCATTER_WIDTH
        for name in ("y", "y1", "y2", "cy"):
            assert 0 <= float(mark.get(name, 0)) <= SCATTER_HEIGHT


@given(st.lists(points, max_size=8))
def test_labels_are_inside_the_plot(points: list[Point]) -> None:
    for text in drawn(*points).iter("text"):
        if (text.get("class") or "").startswith("label"):
            edge, width = float(text.get("x", "")), LETTER_WIDTH * len(text.text or "")
            left = edge - width if text.get("class") == "label end" else edge
            assert PLOT.left - 0.2 <= left <= left + width <= PLOT.right + 0.2


@given(st.lists(numbers, min_size=2, max_size=8))
def test_points_keep_the_order_of_their_values(values: list[float]) -> None:
    places = circles(drawn(*(Point("p", value, 0.0, -value, 0.0) for value in sorted(values))))
    assert all(left[0] <= right[0] and left[1] <= right[1] for left, right in pairwise(places))


def test_error_bars_span_the_error_both_ways() -> None:
    svg = drawn(Point("a", 1.0, 0.5, 2.0, 0.25), Point("b", 2.0, 0.0, 3.0, 0.0))
    (x, y), _ = circles(svg)
    across, up = [line.attrib for line in svg.iter("line") if line.get("class") == "error"][:2]
    left, right, bottom, top = (float(number) for number in (across["x1"], across["x2"], up["y1"], up["y2"]))
    assert abs((left + right) / 2 - x) < 0.2
    assert left < x < right
    assert abs((bottom + top) / 2 - y) < 0.2
    assert top < y < bottom


def test_every_point_is_labelled_and_neighbours_do_not_overlap() -> None:
    svg = drawn(*(Point(name, 1.0 + shift, 0.1, 1.0, 0.1) for name, shift in [("one", 0.0), ("two", 0.01)]))
    labels = {text.text: text for text in svg.iter("text") if (text.get("class") or "").startswith("label")}
    assert set(labels) == {"one", "two"}
    first, second = ((float(text.get("x", "")), float(text.get("y", ""))) for text in labels.values())
    assert abs(first[0] - second[0]) >= 3 * LETTER_WIDTH or abs(first[1] - second[1]) >= 14


def test_label_that_finds_no_place_at_its_point_is_led_to_it() -> None:
    svg = drawn(*(Point(f"crowded {number}", 1.0, 0.1, 1.0, 0.1) for number in range(8)))
    leaders = [line for line in svg.iter("line") if line.get("class") == "leader"]
    assert leaders
    assert {(float(line.get("x1", "")), float(line.get("y1", ""))) for line in leaders} <= set(circles(svg))
    tops = [float(text.get("y", "")) for text in svg.iter("text") if "label" in (text.get("class") or "")]
    assert len(tops) == 8


def test_equal_values_lie_on_the_diagonal() -> None:
    svg = drawn(Point("a", 0.5, 0.01, 0.5, 0.02), Point("b", 0.3, 0.01, 0.9, 0.02), diagonal=True)
    (line,) = (line.attrib for line in svg.iter("line") if line.get("class") == "equal")
    x1, y1, x2, y2 = (float(line[name]) for name in ("x1", "y1", "x2", "y2"))
    x, y = circles(svg)[0]
    assert abs((y - y1) / (y2 - y1) - (x - x1) / (x2 - x1)) < 0.01


@pytest.mark.parametrize("noise", [0.02, 0.3, 5.0])
def test_noise_band_is_as_wide_as_the_noise_on_either_side_of_the_diagonal(noise: float) -> None:
    low, high = 0.3, 0.9
    svg = drawn(Point("", low, 0.0, low, 0.0), Point("", high, 0.0, high, 0.0), diagonal=True, noise=noise)
    (left, bottom), (right, top) = circles(svg)
    start, below, _, end, _, above = corners(svg)
    assert below[0] - start[0] == pytest.approx(noise * (right - left) / (high - low), rel=0.02)
    assert start[1] - above[1] == pytest.approx(noise * (bottom - top) / (high - low), rel=0.02)
    assert start == (PLOT.left, PLOT.bottom)
    assert end == (PLOT.right, PLOT.top)


def test_no_band_without_noise_or_without_diagonal() -> None:
    point = Point("a", 1.0, 0.1, 1.0, 0.1)
    assert not list(drawn(point, diagonal=True).iter("polygon"))
    assert not list(drawn(point, noise=0.1).iter("polygon"))


def test_point_without_label_has_a_tooltip_and_no_error_bars() -> None:
    svg = drawn(Point("", 1.0, 0.0, 1.0, 0.0, tooltip="a & b"))
    (circle,) = svg.iter("circle")
    assert [title.text for title in circle.iter("title")] == ["a & b"]
    assert not [text for text in svg.iter("text") if "label" in (text.get("class") or "")]
    assert not [line for line in svg.iter("line") if line.get("class") == "error"]


def test_chart_says_what_it_is() -> None:
    svg = drawn(Point("<b>", 1.0, 0.1, 1.0, 0.1))
    described = [svg.find("title"), svg.find("desc")]
    assert [part is not None and part.text for part in described] == ["y against x", "what it shows"]
    assert svg.get("aria-labelledby") == " ".join(
        part.get("id", "") for part in described if part is not None
    )
