"""Which tasks a run has once its sources are cut, as far as that can be known before."""

from gradsift.components.preflight.cost.row_lengths import RowLengths
from gradsift.components.shared.data.prepared_data import PreparedTask, TaskIndex
from gradsift.components.shared.parameters.extraction import ExtractionSettings, cluster_name


def cut_sources(
    extraction: ExtractionSettings, data: TaskIndex, lengths: RowLengths
) -> tuple[TaskIndex, RowLengths]:
    """Return the tasks after the cut and their lengths.

    Each source is taken to have as many clusters as it may have, of the same size and with rows of the same length.
    """
    tasks = [part for task in data.tasks for part in _parts(extraction, data.target, task)]
    train = {task.name: lengths.train[task.whole] for task in tasks}
    return TaskIndex(data.suite, data.target, data.max_length, tasks), RowLengths(train, lengths.held_out)


def _parts(extraction: ExtractionSettings, target: str, task: PreparedTask) -> list[PreparedTask]:
    rows = task.rows["train"]
    count = 1 if task.name == target else extraction.clusters_of(rows)
    if count == 1:
        return [task]
    return [
        task.model_copy(
            update={
                "name": cluster_name(task.name, number),
                "rows": {"train": rows // count + (number < rows % count)},
                "part_of": task.name,
            }
        )
        for number in range(count)
    ]
