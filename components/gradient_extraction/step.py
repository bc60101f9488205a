"""The step: gradients of all train rows and of the target's validation rows, into a store."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from gradsift.components.gradient_extraction.config import GradientExtractionConfig
from gradsift.components.shared.gradient_store import (
    MANIFEST,
    GradientStore,
    GradientStoreWriter,
    ShardRecord,
    StoreHeader,
)
from gradsift.components.shared.prepared_data import INDEX, PreparedData
from gradsift.components.shared.step_output import StepOutput, fetch, output_key
from gradsift.components.shared.storage import join_uri, open_storage
from gradsift.components.shared.tracking import StepTracker

if TYPE_CHECKING:
    from gradsift.components.gradient_extraction.extraction import GradientExtractor

STEP = "gradient_extraction"


@dataclass(frozen=True)
class ShardPlan:
    """Which rows a shard holds."""

    task: str
    split: Literal["train", "val"]
    index: int
    start: int
    stop: int


def extract_gradients(
    config: GradientExtractionConfig,
    data: StepOutput,
    model: StepOutput,
    root_uri: str,
    tracker: StepTracker,
) -> StepOutput:
    """Write the gradient store of `model` (theta*) on `data`, or find it finished.

    The target's test split is never read. A shard that is there and whole is not computed again, and one that
    a finished store has lost is.

    Returns:
        The store's address and its manifest's sha256, with row and shard counts as metadata.
    """
    inputs = {"config": asdict(config), "data": data.digest, "model": model.digest}
    uri = join_uri(root_uri, STEP, output_key(STEP, inputs))
    reused = _is_finished(uri)
    if not reused:
        _write_store(config, data, model, uri, tracker)
    store = GradientStore(uri)
    metadata = {
        "suite": data.metadata["suite"],
        "target": store.header.target,
        "rows": sum(shard.rows for shard in store.shards),
        "shards": len(store.shards),
        "bytes": sum(shard.bytes for shard in store.shards),
        "dimension": store.header.dimension,
    }
    return StepOutput(uri, store.digest, metadata, reused)


def shard_plans(data: PreparedData, shard_rows: int) -> list[ShardPlan]:
    """Return every shard of the store in order: train rows of all tasks, then the target's validation rows."""
    splits: list[tuple[str, Literal["train", "val"]]] = [(task.name, "train") for task in data.tasks]
    splits.append((data.target, "val"))
    return [
        ShardPlan(task, split, index, start, min(start + shard_rows, data.task(task).rows[split]))
        for task, split in splits
        for index, start in enumerate(range(0, data.task(task).rows[split], shard_rows))
    ]


def _is_finished(uri: str) -> bool:
    storage = open_storage(uri)
    if not storage.exists(MANIFEST):
        return False
    return {shard.key for shard in GradientStore(uri).shards} <= set(storage.keys())


def _prepared_without_test(data: StepOutput) -> PreparedData:
    prepared = PreparedData(fetch(data, [INDEX]))
    splits = [f"{task.name}/train.arrow" for task in prepared.tasks]
    return PreparedData(fetch(data, [INDEX, *splits, f"{prepared.target}/val.arrow"]))


def _write_store(
    config: GradientExtractionConfig, data: StepOutput, model: StepOutput, uri: str, tracker: StepTracker
) -> None:
    prepared = _prepared_without_test(data)
    plans = shard_plans(prepared, config.shard_rows)
    extractor, header = _extractor(config, data, model, prepared.target)
    writer = GradientStoreWriter(open_storage(uri), header)
    total = sum(plan.stop - plan.start for plan in plans)
    with tqdm(total=total, unit="row", desc="extract gradients") as bar:

        def report(rows: int) -> None:
            bar.update(rows)
            tracker.progress(int(bar.n), total, "rows")

        writer.seal(list(_shards(plans, prepared, extractor, writer, report)))


def _shards(
    plans: list[ShardPlan],
    data: PreparedData,
    extractor: "GradientExtractor",
    writer: GradientStoreWriter,
    report: Any,
) -> Iterator[ShardRecord]:
    for plan in plans:
        record = writer.finished_shard(plan.task, plan.split, plan.index)
        if record is None:
            rows = data.split(plan.task, plan.split).select(range(plan.start, plan.stop))
            shard = extractor.shard(rows, plan.task, report)
            record = writer.write_shard(plan.task, plan.split, plan.index, shard)
        else:
            report(record.rows)
        yield record


def _extractor(
    config: GradientExtractionConfig, data: StepOutput, model: StepOutput, target: str
) -> tuple["GradientExtractor", StoreHeader]:
    import torch

    from gradsift.components.gradient_extraction.extraction import GradientExtractor
    from gradsift.components.shared.encoder_classifier import EncoderClassifier
    from gradsift.components.shared.precision import resolve_precision

    folder = fetch(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = EncoderClassifier.load(folder).to(device)
    if not model.metadata["train_embeddings"]:
        classifier.freeze_embeddings()
    parameters = [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
    header = StoreHeader(
        dimension=config.dimension,
        blocks=config.blocks,
        probes=config.probes,
        projection={"kind": "fold and khatri-rao", "seed": config.seed, "width": config.projection_width},
        parameters=parameters,
        base_model_digest=model.metadata["base_model_digest"],
        model_digest=model.digest,
        tokenizer_digest=model.metadata["tokenizer_digest"],
        data_digest=data.digest,
        target=target,
        shard_rows=config.shard_rows,
        precision=resolve_precision(config.precision),  # type: ignore[arg-type]  # checked by the config
        versions={name: version(name) for name in ("gradsift", "torch", "transformers", "numpy")},
    )
    return GradientExtractor(classifier, parameters, config), header
