"""Labels of a chart's points: each at a free place near its point, and none where there is no such place."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

LETTER_WIDTH, LINE_HEIGHT, MAX_LABEL_LENGTH = 7.0, 14.0, 24
BESIDE = (-7.0, -18.0, 4.0, -30.0, 16.0)
AROUND = (-18.0, 4.0, -32.0, 18.0, 32.0, -46.0, 46.0, -60.0)
"""Places of a label, by the height of its top against its point; on either side of it."""
CLEARANCE = 6.0  # around a point
DISTANCE = 10.0  # of a label from its point, sideways


@dataclass(frozen=True)
class Area:
    """A rectangle of a chart."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Area") -> bool:
        """Say whether the two share more than an edge."""
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def segment(x1: float, y1: float, x2: float, y2: float, css_class: str) -> Markup:
    """Return a straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(x1, y1, x2, y2, css_class)


def text(x: float, y: float, css_class: str, words: str) -> Markup:
    """Return words on the base line `y`, from `x` or as the class anchors them."""
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(x, y, css_class, words)


def shortened(label: str) -> str:
    """Return a label that is not too long to draw: a long one without its middle, as names differ at their ends."""
    half = MAX_LABEL_LENGTH // 2
    return label if len(label) <= MAX_LABEL_LENGTH else f"{label[: half - 1]}…{label[-half:]}"


def point_labels(
    points: Sequence[tuple[str, float, float]], plot: Area, places: Sequence[float] = AROUND
) -> Markup:
    """Label points, with a line from a label to its point where it is far.

    Args:
        points: label, x and y of each, those first that need their label most; `""` for no label.
        plot: where labels may be.
        places: `BESIDE` where points are so many that lines to far labels would run through others.
    """
    taken = [Area(x - CLEARANCE, y - CLEARANCE, x + CLEARANCE, y + CLEARANCE) for _, x, y in points]
    leaders, texts = [], []
    for label, x, y in ((shortened(label), x, y) for label, x, y in points if label):
        area = _free_area(_areas(x, y, LETTER_WIDTH * len(label), plot, places), taken)
        if area is None:
            continue
        taken.append(area)
        edge, css_class = (area.right, "label end") if area.right < x else (area.left, "label")
        if not area.top - LINE_HEIGHT < y < area.bottom + LINE_HEIGHT:
            nearest = (min(max(x, area.left), area.right), min(max(y, area.top), area.bottom))
            leaders.append(segment(x, y, *nearest, "leader"))
        texts.append(text(edge, area.bottom - 4, css_class, label))
    return Markup("").join(leaders + texts)


def _areas(x: float, y: float, width: float, plot: Area, places: Sequence[float]) -> Iterator[Area]:
    return (_inside(x + dx, y + dy, width, plot) for dy in places for dx in (DISTANCE, -DISTANCE - width))


def _free_area(areas: Iterable[Area], taken: Sequence[Area]) -> Area | None:
    return next((area for area in areas if not any(area.overlaps(other) for other in taken)), None)


def _inside(left: float, top: float, width: float, plot: Area) -> Area:
    """Return the area of a line of text, moved into the plot where it sticks out."""
    left = round(max(plot.left, min(left, plot.right - width)), 1)
    top = round(max(plot.top, min(top, plot.bottom - LINE_HEIGHT)), 1)
    return Area(left, top, round(left + width, 1), round(top + LINE_HEIGHT, 1))
