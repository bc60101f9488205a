"""The report's heat map of what pairs of tasks do together: a pure function from numbers to inline SVG.

Half of the matrix is drawn, as it is symmetric. The names stand on the diagonal: a task's pairs are the cells
left of its name and those below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradsift.components.evaluation.report.labels import LETTER_WIDTH, shortened, text
from gradsift.components.evaluation.report.report_words import signed_nats
from gradsift.components.shared.records.selection_results import Synergy

WIDE_CELL, NARROW_CELL, MANY_TASKS = 24, 16, 12
GAP = 1.0  # between cells
PAIRS_NAMED = 4


@dataclass(frozen=True)
class Pair:
    """Two tasks and their synergy in nats; negative: they help more together than apart."""

    tasks: tuple[str, str]
    value: float

    @property
    def words(self) -> str:
        """Say what the pair does, with the number."""
        first, second = self.tasks
        return f"{first} and {second}: {signed_nats(self.value)} nats"


def strongest_pairs(synergy: Synergy) -> tuple[list[Pair], list[Pair]]:
    """Return the few pairs that help most together, and the few that most make up for each other."""
    pairs = sorted(_pairs(synergy), key=lambda pair: pair.value)
    helping = [pair for pair in pairs if pair.value < 0]
    redundant = [pair for pair in reversed(pairs) if pair.value > 0]
    return helping[:PAIRS_NAMED], redundant[:PAIRS_NAMED]


def largest_synergy(synergy: Synergy) -> float:
    """Return the largest size of a pair's synergy, which gets the full colour."""
    return max((abs(pair.value) for pair in _pairs(synergy)), default=0.0)


def synergy_chart(synergy: Synergy, order: Sequence[str]) -> Markup:
    """Return the heat map.

    Args:
        synergy: of the pairs.
        order: the tasks from top to bottom, at least those of `synergy`.
    """
    index = {task: number for number, task in enumerate(synergy.tasks)}
    tasks = [task for task in order if task in index]
    cell = WIDE_CELL if len(tasks) <= MANY_TASKS else NARROW_CELL
    full = largest_synergy(synergy)
    cells = [
        _cell(column, row, cell, Pair((above, task), synergy.values[index[task]][index[above]]), full)
        for row, task in enumerate(tasks)
        for column, above in enumerate(tasks[:row])
    ]
    names = [
        text(row * cell + 4, (row + 0.5) * cell + 4, "name", shortened(task))
        for row, task in enumerate(tasks)
    ]
    width = max(
        (row * cell + 4 + LETTER_WIDTH * len(shortened(task)) for row, task in enumerate(tasks)), default=0
    )
    return Markup(
        '<svg class="synergy" viewBox="0 0 {width} {height}" style="width:{width}px" role="img"'
        ' aria-labelledby="synergy-chart-title synergy-chart-text">'
        '<title id="synergy-chart-title">Synergy of pairs of sources</title>'
        '<desc id="synergy-chart-text">{description}</desc>{parts}</svg>'
    ).format(
        width=round(width),
        height=cell * len(tasks),
        description=_description(synergy),
        parts=Markup("").join(cells + names),
    )


def _pairs(synergy: Synergy) -> list[Pair]:
    return [
        Pair((above, task), synergy.values[row][column])
        for row, task in enumerate(synergy.tasks)
        for column, above in enumerate(synergy.tasks[:row])
    ]


def _cell(column: int, row: int, size: int, pair: Pair, full: float) -> Markup:
    """Return a pair's cell, its colour as strong as its value is large against `full`."""
    return Markup(
        '<rect x="{}" y="{}" width="{}" height="{}" class="pair {}" fill-opacity="{}"><title>{}</title></rect>'
    ).format(
        column * size,
        row * size,
        size - GAP,
        size - GAP,
        "together" if pair.value < 0 else "redundant",
        round(abs(pair.value) / full, 2) if full else 0,
        pair.words,
    )


def _description(synergy: Synergy) -> str:
    helping, redundant = strongest_pairs(synergy)
    words = [f"{len(synergy.tasks)} sources."]
    if helping:
        words.append("Help most together: " + "; ".join(pair.words for pair in helping) + ".")
    if redundant:
        words.append("Most make up for each other: " + "; ".join(pair.words for pair in redundant) + ".")
    return " ".join(words)
