from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.evaluation.report.synergy_chart import (
    largest_synergy,
    strongest_pairs,
    synergy_chart,
)
from gradsift.components.shared.records.selection_results import Synergy

SYNERGY = Synergy(tasks=["a", "b", "c"], values=[[0.0, 0.02, -0.01], [0.02, 0.0, 0.0], [-0.01, 0.0, 0.0]])


def cells(synergy: Synergy, order: list[str]) -> dict[tuple[float, float], ElementTree.Element]:
    svg = ElementTree.fromstring(synergy_chart(synergy, order))
    return {(float(cell.get("x", "")), float(cell.get("y", ""))): cell for cell in svg.iter("rect")}


def symmetric(size: int, values: list[float]) -> Synergy:
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size, 1)] = values
    return Synergy(tasks=[f"task {number}" for number in range(size)], values=(matrix + matrix.T).tolist())


synergies = st.integers(1, 14).flatmap(
    lambda size: st.lists(
        st.floats(-10, 10), min_size=size * (size - 1) // 2, max_size=size * (size - 1) // 2
    ).map(lambda values: symmetric(size, values))
)


def test_each_pair_has_one_cell_with_its_sign_its_strength_and_its_words() -> None:
    found = cells(SYNERGY, ["a", "b", "c"])
    shown = [
        (cell.get("class"), cell.get("fill-opacity"), next(cell.iter("title")).text)
        for cell in found.values()
    ]
    assert shown == [
        ("pair redundant", "1.0", "a and b: +0.0200 nats"),
        ("pair together", "0.5", "a and c: \N{MINUS SIGN}0.0100 nats"),
        ("pair redundant", "0.0", "b and c: 0.0000 nats"),
    ]


def test_tasks_run_in_the_given_order_and_only_those_that_have_pairs() -> None:
    svg = ElementTree.fromstring(synergy_chart(SYNERGY, ["c", "other", "a", "b"]))
    assert [text.text for text in svg.iter("text")] == ["c", "a", "b"]
    words = [next(cell.iter("title")).text for cell in svg.iter("rect")]
    assert [word.partition(":")[0] for word in words if word] == ["c and a", "c and b", "a and b"]


@given(synergies)
def test_cells_are_inside_the_view_box_and_left_of_their_row_s_name(synergy: Synergy) -> None:
    svg = ElementTree.fromstring(synergy_chart(synergy, synergy.tasks))
    _, _, width, height = (float(number) for number in svg.get("viewBox", "").split())
    size = len(synergy.tasks)
    assert len(list(svg.iter("rect"))) == size * (size - 1) // 2
    names = {float(text.get("y", "")): float(text.get("x", "")) for text in svg.iter("text")}
    for cell in svg.iter("rect"):
        left, top, side = (float(cell.get(name, "")) for name in ("x", "y", "width"))
        assert 0 <= float(cell.get("fill-opacity", "")) <= 1
        assert top + side <= height
        assert left + side <= width
        name = next(x for y, x in names.items() if top < y < top + side + 1)
        assert left + side < name


@given(synergies)
def test_strongest_pairs_are_the_ends_of_all_pairs(synergy: Synergy) -> None:
    values = np.array(synergy.values)[np.triu_indices(len(synergy.tasks), 1)]
    helping, redundant = strongest_pairs(synergy)
    assert [pair.value for pair in helping] == sorted(values[values < 0])[:4]
    assert [pair.value for pair in redundant] == sorted(values[values > 0], reverse=True)[:4]
    assert largest_synergy(synergy) == pytest.approx(np.abs(values).max(initial=0))


def test_chart_tells_its_strongest_pairs_to_those_who_do_not_see_it() -> None:
    svg = ElementTree.fromstring(synergy_chart(SYNERGY, ["a", "b", "c"]))
    parts = {part.get("id"): part.text or "" for part in svg if part.tag in {"title", "desc"}}
    assert set((svg.get("aria-labelledby") or "").split()) == set(parts)
    assert "a and c" in parts["synergy-chart-text"]
    assert "Most make up for each other: a and b: +0.0200 nats." in parts["synergy-chart-text"]
