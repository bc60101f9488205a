"""The step: gradients of all train rows and of the target's validation rows, into a store.

Pods write parts of it, each its own shards; when all are done, the store is sealed by the manifest that lists them.
"""

from collections.abc import Iterator
from typing import Protocol

from tqdm import tqdm

from gradsift.components.gradient_extraction.gradients.training_start import TrainingStart
from gradsift.components.gradient_extraction.shards.parts import (
    Part,
    PartRecord,
    StorePart,
    read_part,
    shard_plans,
    shards_of_part,
    write_part,
)
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, output_key
from gradsift.components.shared.data.prepared_data import INDEX, PreparedData
from gradsift.components.shared.errors import GradientStoreError
from gradsift.components.shared.gradient_store.gradient_format import shard_key
from gradsift.components.shared.gradient_store.gradient_store import (
    GradientStore,
    GradientStoreWriter,
    find_store,
)
from gradsift.components.shared.models.untrained_model import produce_untrained_model
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.process.gpus import check_gpus
from gradsift.components.shared.process.pod_environment import given_gpus
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.tracking import StepTracker

STEP = "gradient_extraction"


class Progress(Protocol):
    """Takes the progress of a part; a step's tracker does."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """Record that `done` of `total` units are done."""


def extract_gradients(
    config: GradientExtractionConfig,
    data: StepOutput,
    model: StepOutput,
    root_uri: str,
    tracker: StepTracker,
) -> StepOutput:
    """Write the whole gradient store of `model` (theta*) on `data`, or find it finished (see `seal_store`)."""
    for number in range(config.pods):
        extract_part(config, data, model, Part(number, config.pods), root_uri, tracker)
    return seal_store(config, data, model, root_uri)


def extract_part(
    config: GradientExtractionConfig,
    data: StepOutput,
    model: StepOutput,
    part: Part,
    root_uri: str,
    tracker: Progress,
) -> bool:
    """Write one part of the shards, and put on record that it is done.

    The target's test split is never read. A shard that is there and whole is not computed again, and one that a
    finished store has lost is.

    Args:
        config: how gradients are projected and stored.
        data: the prepared data.
        model: the meta-trained model, theta*.
        part: which part.
        root_uri: the run root.
        tracker: gets the progress in rows.

    Returns:
        Whether everything was there already.

    Raises:
        InputError: a parameter's gradient cannot be extracted, the base model is not the one that meta-training
            started from, or `extract_base_weights` is asked for with a head that has to be trained first.
        ExtractionError: the checks before the first shard failed, or a process ended without a result.
        StorageError: the storage is out of reach.
    """
    models = list(_models(config, data, model, root_uri))
    stores = [_store_part(config, data, each, start, part, root_uri, tracker) for each, start in models]
    write_part(root_uri, _extraction_key(config, data, model), part, PartRecord(stores=stores))
    return all(store.reused for store in stores)


def is_finished(config: GradientExtractionConfig, data: StepOutput, model: StepOutput, root_uri: str) -> bool:
    """Say whether all shards are there, so that parts have nothing to compute (see `extract_part`)."""
    models = _models(config, data, model, root_uri)
    return all(find_store(_store_uri(config, data, each, root_uri)) is not None for each, _ in models)


def seal_store(
    config: GradientExtractionConfig,
    data: StepOutput,
    model: StepOutput,
    root_uri: str,
) -> StepOutput:
    """Write the manifests of the stores whose parts are done; no model and no GPU are needed.

    Returns:
        The store's address and its manifest's sha256, with row and shard counts as metadata; and `base_uri` and
        `base_digest` of the second store, if there is one.

    Raises:
        NotFoundError: a part is not done.
        GradientStoreError: the parts do not belong together, as they ran on machines that compute differently.
    """
    key = _extraction_key(config, data, model)
    records = [read_part(root_uri, key, Part(number, config.pods)) for number in range(config.pods)]
    plans = shard_plans(PreparedData(fetch(data, [INDEX])), config.shard_rows)
    order = [shard_key(plan.task, plan.split, plan.index) for plan in plans]
    stores = [_sealed(parts, order) for parts in zip(*(record.stores for record in records), strict=True)]
    store = stores[0]
    metadata = {
        "suite": data.metadata["suite"],
        "target": store.header.target,
        "rows": sum(shard.rows for shard in store.shards),
        "shards": len(store.shards),
        "bytes": sum(shard.bytes for shard in store.shards),
        "dimension": store.header.dimension,
    }
    for base in stores[1:]:
        metadata |= {"base_uri": base.storage.uri, "base_digest": base.digest}
    reused = all(part.reused for record in records for part in record.stores)
    return StepOutput(store.storage.uri, store.digest, metadata, reused)


def _models(
    config: GradientExtractionConfig, data: StepOutput, model: StepOutput, root_uri: str
) -> Iterator[tuple[StepOutput, TrainingStart | None]]:
    """Yield the models whose gradients are stored, each with the start of its training.

    These are theta* and, if they are asked for, the pretrained weights, which no training led to.
    """
    start = TrainingStart.of(model)
    yield model, start
    if config.base_weights:
        yield produce_untrained_model(STEP, data, start.model, root_uri), None


def _store_part(
    config: GradientExtractionConfig,
    data: StepOutput,
    model: StepOutput,
    start: TrainingStart | None,
    part: Part,
    root_uri: str,
    tracker: Progress,
) -> StorePart:
    uri = _store_uri(config, data, model, root_uri)
    if (store := find_store(uri)) is not None:
        return StorePart(
            uri=uri, header=store.header, shards=store.shards[part.number :: part.of], reused=True
        )
    check_gpus(given_gpus())
    if start is not None:
        start.check(model)
    import torch

    from gradsift.components.gradient_extraction.shards.extraction_processes import write_shards
    from gradsift.components.gradient_extraction.shards.shard_writing import ExtractionJob, data_without_test

    plans = shards_of_part(data_without_test(data), config.shard_rows, part)
    total = sum(plan.stop - plan.start for plan in plans)
    processes = max(1, min(config.processes or torch.cuda.device_count(), len(plans)))
    with tqdm(total=total, unit="row", desc="extract gradients") as bar:

        def report(rows: int) -> None:
            bar.update(rows)
            tracker.progress(int(bar.n), total, "rows")

        header, records = write_shards(
            ExtractionJob(config, data, model, start, uri, part, processes), report
        )
    return StorePart(uri=uri, header=header, shards=[records[plan] for plan in plans], reused=False)


def _sealed(parts: tuple[StorePart, ...], order: list[str]) -> GradientStore:
    """Seal the store that these parts wrote, its shards in this order of their keys."""
    first = parts[0]
    for part in parts:
        if part.header != first.header:
            changed = ", ".join(_differences(part, first))
            raise GradientStoreError(
                f"The parts of the gradient store at {first.uri} differ in {changed}: expected pods on machines of "
                f"one kind; delete {first.uri} to have it made again."
            )
    records = {record.key: record for part in parts for record in part.shards}
    with GradientStoreWriter(open_storage(first.uri), first.header) as writer:
        digest = writer.seal([records[key] for key in order])
    return GradientStore(first.uri, digest)


def _differences(one: StorePart, other: StorePart) -> Iterator[str]:
    before, after = one.header.model_dump(), other.header.model_dump()
    return (name for name in before if before[name] != after[name])


def _store_uri(config: GradientExtractionConfig, data: StepOutput, model: StepOutput, root_uri: str) -> str:
    return join_uri(root_uri, STEP, output_key(STEP, _inputs(config, data, model)))


def _extraction_key(config: GradientExtractionConfig, data: StepOutput, model: StepOutput) -> str:
    return output_key(STEP, {**_inputs(config, data, model), "base_weights": config.base_weights})


def _inputs(config: GradientExtractionConfig, data: StepOutput, model: StepOutput) -> dict[str, object]:
    settings = config.model_dump(exclude={"processes", "pods", "base_weights", "cluster_sources"})
    return {"config": settings, "data": data.digest, "model": model.digest}
