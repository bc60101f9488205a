"""Which sources were cut into clusters of rows: the model of `source_clusters.json`."""

from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt

from gradsift.components.shared.records.results import Record, ResultFile

SOURCE_CLUSTERS = "source_clusters"
"""Name of the cut in a run's record, and of the folder under the run root with the cut data."""


class TypicalRow(Record):
    """A row whose gradient is near the centre of its cluster.

    Attributes:
        id: its id.
        text: what it asks, perhaps shortened.
        answer: the right answer, perhaps shortened.
    """

    id: str
    text: str
    answer: str


class SourceCluster(Record):
    """A cluster of a source's rows.

    Attributes:
        task: its name as an auxiliary task.
        rows: how many rows it has.
        labels: how many of them have each label, by the label's name; none where answers are written.
        typical: its rows nearest to the centre, the nearest first.
    """

    task: str
    rows: PositiveInt
    labels: dict[str, int]
    typical: list[TypicalRow]


class CutSource(Record):
    """A source that was cut.

    Attributes:
        source: its name.
        rows: how many rows it has.
        clusters: its clusters, the largest first.
    """

    source: str
    rows: PositiveInt
    clusters: Annotated[list[SourceCluster], Field(min_length=2)]


class SourceClusters(ResultFile):
    """`source_clusters.json`: the cut of all sources.

    Attributes:
        cut: the sources that were cut.
        whole: the sources that have too few rows, or whose rows are all alike.
    """

    FILE: ClassVar[str] = "source_clusters.json"

    cut: list[CutSource]
    whole: list[str]
