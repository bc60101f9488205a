"""Cuts sources by their gradients: prepared data and a gradient store with clusters in the place of sources.

Rows are never copied: a cluster is a list of places in its source's file (see `prepared_data`).
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradsift.components.gradient_extraction.clusters.clustering import Clusters, FloatArray, cluster_rows
from gradsift.components.gradient_extraction.clusters.cut_store import write_cut_store
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, output_key, produce
from gradsift.components.shared.data.prepared_data import (
    STATISTICS,
    PreparedData,
    PreparedTask,
    write_index,
    write_places,
)
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, find_store
from gradsift.components.shared.models.prompt_format import questions
from gradsift.components.shared.parameters.extraction import (
    MIN_CLUSTER_ROWS,
    ExtractionSettings,
    cluster_name,
)
from gradsift.components.shared.records.source_clusters import (
    SOURCE_CLUSTERS,
    CutSource,
    SourceCluster,
    SourceClusters,
    TypicalRow,
)
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.tracking import StepTracker

STEP = "gradient_extraction.clusters"
STORES = "clustered_gradients"
TYPICAL_ROWS, MAX_TEXT = 3, 280
"""Number of typical rows that are kept per cluster, and of characters that are kept of their texts."""


def cut_sources(
    config: ExtractionSettings,
    data: StepOutput,
    gradients: StepOutput,
    root_uri: str,
    tracker: StepTracker,
) -> tuple[StepOutput, StepOutput]:
    """Cut every source into clusters of rows with similar gradients, or return the cut of an earlier run.

    Args:
        config: the number of clusters and the seed.
        data: the prepared data, whose target stays as it is.
        gradients: its gradient store, and perhaps a second one at the pretrained weights.
        root_uri: the run root, a local path or an `s3://` address.
        tracker: gets the progress in sources.

    Returns:
        The prepared data whose auxiliary tasks are the clusters, and their gradient store.

    Raises:
        GradientStoreError: the store is unfinished or damaged.
        StorageError: a file cannot be read or written.
    """
    store = GradientStore(gradients.uri, gradients.digest)
    store.check_origin(data_digest=data.digest)
    inputs = {
        "clusters": config.cluster_sources,
        "seed": config.seed,
        "data": data.digest,
        "gradient_store": gradients.digest,
    }

    def work(folder: Path) -> dict[str, Any]:
        return _write_cut_data(config, PreparedData(fetch(data)), store, folder, tracker)

    cut = produce(root_uri, STEP, inputs, work, SOURCE_CLUSTERS)
    cut = replace(cut, metadata={**data.metadata, **cut.metadata})
    return cut, _cut_gradients(gradients, cut, root_uri)


def _cut_gradients(gradients: StepOutput, cut: StepOutput, root_uri: str) -> StepOutput:
    """Return the gradient stores with their sources cut."""
    prepared = PreparedData(fetch(cut))

    def cut_store(uri: str, digest: str) -> GradientStore:
        key = output_key(STEP, {"gradient_store": digest, "data": cut.digest})
        place = join_uri(root_uri, STORES, key)
        found = find_store(place)
        return found or write_cut_store(GradientStore(uri, digest), prepared, cut.digest, place)

    store, metadata = cut_store(gradients.uri, gradients.digest), dict(gradients.metadata)
    if "base_uri" in metadata:
        base = cut_store(metadata["base_uri"], metadata["base_digest"])
        metadata |= {"base_uri": base.storage.uri, "base_digest": base.digest}
    return StepOutput(store.storage.uri, store.digest, metadata)


def _write_cut_data(
    config: ExtractionSettings, data: PreparedData, store: GradientStore, folder: Path, tracker: StepTracker
) -> dict[str, Any]:
    tasks: list[PreparedTask] = []
    cut: list[CutSource] = []
    for number, task in enumerate(data.tasks):
        clusters = None if task.name == data.target else _clusters(config, store, task)
        if clusters is None:
            tasks.append(task)
        else:
            cut.append(_cut_source(data, task, clusters))
            tasks += _write_parts(task, clusters, cut[-1], folder)
        for name in task.files(*task.rows):
            _link(data.folder / name, folder / name)
        tracker.progress(number + 1, len(data.tasks), "tasks")
    whole = [task.name for task in tasks if task.part_of is None and task.name != data.target]
    SourceClusters(cut=cut, whole=whole).write(folder)
    _write_statistics(data, cut, folder)
    write_index(folder, data.suite, data.target, tasks, data.max_length)
    return {"tasks": len(tasks), "cut_sources": len(cut), "clusters": sum(len(each.clusters) for each in cut)}


def _clusters(config: ExtractionSettings, store: GradientStore, task: PreparedTask) -> Clusters | None:
    """Return the clusters of a source, or None where it stays whole."""

    def read() -> Iterator[FloatArray]:
        return (shard.gradient for shard in store.read(task.name, "train"))

    rows = task.rows["train"]
    most = config.clusters_of(rows)
    if most < 2:
        return None
    clusters = cluster_rows(read, rows, most, MIN_CLUSTER_ROWS, config.seed)
    return clusters if clusters.label.any() else None


def _write_parts(task: PreparedTask, clusters: Clusters, cut: CutSource, folder: Path) -> list[PreparedTask]:
    """Write the places of each cluster's rows and return the clusters as tasks."""
    parts = [
        task.model_copy(update={"name": each.task, "rows": {"train": each.rows}, "part_of": task.name})
        for each in cut.clusters
    ]
    for number, part in enumerate(parts):
        write_places(folder, part.name, "train", clusters.places(number))
    return parts


def _cut_source(data: PreparedData, task: PreparedTask, clusters: Clusters) -> CutSource:
    rows = data.split(task.name, "train")

    def cluster(number: int) -> SourceCluster:
        own = rows.select(clusters.places(number))
        typical = rows.select(clusters.typical(number, TYPICAL_ROWS))
        return SourceCluster(
            task=cluster_name(task.name, number),
            rows=len(own),
            labels=_label_counts(own, task.labels),
            typical=[
                TypicalRow(id=row_id, text=_shortened(question.text), answer=_shortened(question.answer))
                for row_id, question in zip(typical["id"][:], questions(typical, task.labels), strict=True)
            ],
        )

    numbers = range(int(clusters.label.max()) + 1)
    return CutSource(source=task.name, rows=len(rows), clusters=[cluster(number) for number in numbers])


def _label_counts(rows: Any, names: list[str]) -> dict[str, int]:
    counts = Counter(rows["label"][:] if names else [])
    return {name: counts[label] for label, name in enumerate(names)}


def _write_statistics(data: PreparedData, cut: list[CutSource], folder: Path) -> None:
    """Write the statistics of the sources, each followed by those of its clusters."""
    clusters = {each.source: each.clusters for each in cut}
    entries = []
    for entry in json.loads((data.folder / STATISTICS).read_text(encoding="utf-8")):
        parts = clusters.get(entry["task"], [])
        entries.append({**entry, "role": "cut"} if parts else entry)
        same = {name: entry[name] for name in ("role", "corruption", "licence")}
        entries += [
            {**same, "task": each.task, "rows": {"train": each.rows}, "labels": each.labels} for each in parts
        ]
    with atomic_file(folder / STATISTICS) as path:
        path.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _link(source: Path, target: Path) -> None:
    """Link to a file from a second place, or copy it where no link is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
