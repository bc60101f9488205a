"""What the gradient store takes of disk, and estimating takes of a CPU."""

import math
from dataclasses import dataclass

from gradsift.components.preflight.cost.model_size import ModelSize
from gradsift.components.shared.data.prepared_data import TaskIndex
from gradsift.components.shared.gradient_store.gradient_format import Answer, StoreHeader, row_bytes
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.records.search_plan import SearchPlan, search_plan


@dataclass(frozen=True)
class CoreTime:
    """Seconds of one core at d = `DIMENSION`.

    Attributes:
        each: of one piece of work, measured on the demo's store.
        per_task: what each task adds, by tests/benchmarks/test_estimation_cost_benchmark.py.
    """

    each: float
    per_task: float

    def seconds(self, pieces: int, tasks: int) -> float:
        """Return the time of so many pieces of work on sums of so many tasks."""
        return pieces * (self.each + self.per_task * tasks)


DIMENSION = 400
READ_ROW = CoreTime(2.4e-5, 0)
READ_TASK = CoreTime(0.019, 0)
SHORTLISTED = CoreTime(1.3e-3, 6.2e-6)
"""A loss by the quadratic form."""
MEAN = CoreTime(20e-3, 47e-6)
"""A loss row by row."""
DETAILED = CoreTime(40e-3, 120e-6)
"""A loss row by row with its standard error."""
BYTES_PER_NUMBER = 24
"""Memory of a number in a task's matrix while the store is opened, which makes several sums of it."""


@dataclass(frozen=True)
class EstimationCost:
    """What the gradient store and the estimates take.

    Attributes:
        store_bytes: of the gradient store.
        store_files: its shards, the records beside them, and the manifest.
        search: how many losses are estimated.
        core_seconds: one core's time for that.
        memory_bytes: largest memory of the sums over tasks.
    """

    store_bytes: int
    store_files: int
    search: SearchPlan
    core_seconds: float
    memory_bytes: int


def estimation_cost(
    settings: PipelineSettings, whole: TaskIndex, data: TaskIndex, size: ModelSize
) -> EstimationCost:
    """Return what the gradient store and the estimates take; times are those of the `simulated` estimator.

    Args:
        settings: all settings.
        whole: the tasks whose gradients are extracted.
        data: the tasks after sources are cut, which have a store of their own then.
        size: the size of the model.
    """
    extraction = settings.extraction
    layouts = [whole, data] if extraction.cluster_sources else [whole]
    stores = 2 if extraction.base_weights else 1
    rows = [[*_train_rows(tasks), tasks.task(tasks.target).rows["val"]] for tasks in layouts]
    shards = sum(math.ceil(count / extraction.shard_rows) for stored in rows for count in stored)
    train = _train_rows(data)
    return EstimationCost(
        store_bytes=stores * sum(map(sum, rows)) * row_bytes(_header(settings, data, size)),
        store_files=stores * (2 * shards + len(layouts)),
        search=(search := search_plan(settings.estimation, len(data.auxiliary_tasks))),
        core_seconds=_core_seconds(settings, search, len(train), sum(train)),
        memory_bytes=BYTES_PER_NUMBER * len(train) * extraction.dimension**2,
    )


def _train_rows(data: TaskIndex) -> list[int]:
    return [task.rows["train"] for task in data.tasks]


def _core_seconds(settings: PipelineSettings, search: SearchPlan, tasks: int, rows: int) -> float:
    """Where runs confirm the choice, a first search before them says on which."""
    width = settings.extraction.dimension / DIMENSION
    opening = READ_TASK.seconds(tasks, tasks) + READ_ROW.seconds(rows, tasks)
    searching = (
        width**2 * (opening + SHORTLISTED.seconds(search.shortlisted, tasks))
        + width * MEAN.seconds(search.stepwise, tasks)
        + width * DETAILED.seconds(search.random, tasks)
    )
    explaining = DETAILED.seconds(search.scores, tasks) + MEAN.seconds(search.synergy, tasks)
    return (2 if settings.confirmation.runs else 1) * searching + width * explaining


def _header(settings: PipelineSettings, data: TaskIndex, size: ModelSize) -> StoreHeader:
    """Return as much of the store's header as decides what a row takes."""
    answer: Answer = "class"
    if size.kind != "encoder":
        answer = "label" if data.task(data.target).kind == "classification" else "text"
    extraction = settings.extraction
    return StoreHeader.model_construct(
        dimension=extraction.dimension,
        probes=extraction.probes,
        hidden=size.width if extraction.hidden_states else None,
        answer=answer,
        dtype=extraction.dtype,
    )
