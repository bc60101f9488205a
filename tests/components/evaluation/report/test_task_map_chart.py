from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.evaluation.report.task_map_chart import (
    COLOURS,
    SHAPES,
    cluster_key,
    cluster_sign,
    is_wide,
    task_map_chart,
)
from gradsift.components.shared.records.selection_results import TaskMap

coordinates = st.floats(-1e6, 1e6, allow_nan=False)
task_maps = st.lists(st.tuples(coordinates, coordinates, st.integers(0, 9)), min_size=1, max_size=40).map(
    lambda rows: TaskMap(
        tasks=[f"task_{number}" for number in range(len(rows))],
        x=[x for x, _, _ in rows],
        y=[y for _, y, _ in rows],
        cluster=[cluster for _, _, cluster in rows],
    )
)

FOUR = TaskMap(
    tasks=["goal", "a", "b", "c"], x=[0.0, 1.0, 2.0, 3.0], y=[0.0, 3.0, 1.0, 2.0], cluster=[0, 0, 1, 1]
)


def drawn(task_map: TaskMap, *selected: str) -> ElementTree.Element:
    return ElementTree.fromstring(task_map_chart(task_map, selected))


def marks(svg: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Tasks' marks by the first words of their tooltips."""
    found = {next(mark.iter("title")).text or "": mark for mark in svg.iter("g")}
    return {words.partition(",")[0]: mark for words, mark in found.items()}


def place(mark: ElementTree.Element) -> tuple[float, float]:
    x, y = mark.get("transform", "")[len("translate(") : -1].split()
    return float(x), float(y)


@given(task_maps)
def test_every_task_has_a_mark_inside_the_view_box(task_map: TaskMap) -> None:
    svg = drawn(task_map)
    _, _, width, height = (float(number) for number in svg.get("viewBox", "").split())
    found = marks(svg)
    assert len(found) == len(task_map.tasks)
    assert all(9 <= x <= width - 9 and 9 <= y <= height - 9 for x, y in map(place, found.values()))


def test_marks_lie_as_their_coordinates_do() -> None:
    found = {task.removesuffix(" (target)"): place(mark) for task, mark in marks(drawn(FOUR)).items()}
    assert all(found[left][0] < found[right][0] for left, right in pairwise(["goal", "a", "b", "c"]))
    assert all(found[low][1] > found[high][1] for low, high in pairwise(["goal", "b", "c", "a"]))


def test_target_is_ringed_and_chosen_tasks_are_filled() -> None:
    found = marks(drawn(FOUR, "b"))
    assert [task for task, mark in found.items() if list(mark.iter("circle"))] == ["goal (target)"]
    solid = {task for task, mark in found.items() if "solid" in (next(mark.iter("path")).get("class") or "")}
    assert solid == {"goal (target)", "b"}
    words = {next(mark.iter("title")).text for mark in found.values()}
    assert words == {
        "goal (target), group 1",
        "a, left out, group 1",
        "b, chosen, group 2",
        "c, left out, group 2",
    }


def test_few_tasks_are_all_labelled_with_the_target_named_so() -> None:
    labels = {text.text for text in drawn(FOUR).iter("text")}
    assert labels == {"goal (target)", "a", "b", "c"}


def test_target_and_chosen_tasks_are_labelled_before_the_others() -> None:
    many = TaskMap(
        tasks=["goal", *(f"task_{number}" for number in range(60))],
        x=[0.0] * 61,
        y=[0.0] * 61,
        cluster=[0] * 61,
    )
    labels = [text.text for text in drawn(many, "task_59").iter("text")]
    assert labels[:2] == ["goal (target)", "task_59"]
    assert len(labels) < 61
    assert is_wide(many)


def test_thirty_groups_differ_and_neighbours_differ_in_colour_and_shape() -> None:
    signs = [ElementTree.fromstring(cluster_sign(cluster)).attrib for cluster in range(COLOURS * len(SHAPES))]
    assert len({(sign["class"], sign["d"]) for sign in signs}) == len(signs)
    assert all(one["class"] != other["class"] and one["d"] != other["d"] for one, other in pairwise(signs))


def test_key_shows_the_sign_of_the_map() -> None:
    assert cluster_sign(3) in cluster_key(3)
