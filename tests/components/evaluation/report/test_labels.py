from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.evaluation.report.labels import (
    AROUND,
    BESIDE,
    CLEARANCE,
    LETTER_WIDTH,
    LINE_HEIGHT,
    MAX_LABEL_LENGTH,
    Area,
    point_labels,
    shortened,
)

PLOT = Area(0, 0, 320, 260)
labelled_points = st.lists(
    st.tuples(st.text("abcdefgh_", max_size=30), st.floats(10, 310), st.floats(10, 250)), max_size=25
)


def drawn(points: list[tuple[str, float, float]], places: tuple[float, ...] = AROUND) -> ElementTree.Element:
    return ElementTree.fromstring(f"<svg>{point_labels(points, PLOT, places)}</svg>")


def areas(svg: ElementTree.Element) -> list[Area]:
    found = []
    for text in svg.iter("text"):
        edge, base, width = (
            float(text.get("x", "")),
            float(text.get("y", "")),
            LETTER_WIDTH * len(text.text or ""),
        )
        left = edge - width if text.get("class") == "label end" else edge
        found.append(Area(left, base + 4 - LINE_HEIGHT, left + width, base + 4))
    return found


def overlap(one: Area, other: Area) -> bool:
    """By how far the two reach into each other both ways, above rounding."""
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    return across > 0.3 and down > 0.3


@given(labelled_points, st.sampled_from([AROUND, BESIDE]))
def test_labels_cover_neither_each_other_nor_points_and_stay_inside(
    points: list[tuple[str, float, float]], places: tuple[float, ...]
) -> None:
    labels = areas(drawn(points, places))
    marks = [Area(x - CLEARANCE, y - CLEARANCE, x + CLEARANCE, y + CLEARANCE) for _, x, y in points]
    assert not [pair for pair in combinations(labels, 2) if overlap(*pair)]
    assert not [label for label in labels for mark in marks if overlap(label, mark)]
    assert all(label.left >= -0.2 and label.right <= PLOT.right + 0.2 for label in labels)
    assert all(label.top >= -0.2 and label.bottom <= PLOT.bottom + 0.2 for label in labels)


def test_first_points_get_their_label_where_not_all_can() -> None:
    texts = [
        text.text for text in drawn([(f"task {number}", 160.0, 130.0) for number in range(40)]).iter("text")
    ]
    assert 1 < len(texts) < 40
    assert texts == [f"task {number}" for number in range(len(texts))]


def test_point_without_a_label_still_keeps_its_place_free() -> None:
    alone = areas(drawn([("task", 160.0, 130.0)], BESIDE))[0]
    beside = areas(drawn([("task", 160.0, 130.0), ("", 180.0, 130.0)], BESIDE))
    assert len(beside) == 1
    assert beside[0] != alone


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("short", "short"),
        ("a" * MAX_LABEL_LENGTH, "a" * MAX_LABEL_LENGTH),
        ("natural_instructions_task029", "natural_ins…ions_task029"),
    ],
)
def test_long_labels_lose_their_middle(label: str, shown: str) -> None:
    assert shortened(label) == shown
    assert len(shown) <= MAX_LABEL_LENGTH
