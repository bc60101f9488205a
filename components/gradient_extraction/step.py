"""The step: gradients of all train rows and of the target's validation rows, into a store."""

from dataclasses import asdict, replace

from tqdm import tqdm

from gradsift.components.gradient_extraction.config import GradientExtractionConfig
from gradsift.components.shared.gradient_store import MANIFEST, GradientStore, GradientStoreWriter
from gradsift.components.shared.step_output import StepOutput, output_key
from gradsift.components.shared.storage import join_uri, open_storage
from gradsift.components.shared.tracking import StepTracker
from gradsift.components.shared.trained_model import training_result
from gradsift.components.shared.training_recipe import ModelConfig
from gradsift.components.shared.untrained_model import produce_untrained_model

STEP = "gradient_extraction"


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

    Raises:
        InputError: a parameter's gradient cannot be extracted.
        ExtractionError: the checks before the first shard failed, or a process ended without a result.
        StorageError: the storage is out of reach.
    """
    settings = {name: value for name, value in asdict(config).items() if name != "processes"}
    inputs = {"config": settings, "data": data.digest, "model": model.digest}
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


def extract_at_both_weights(
    config: GradientExtractionConfig,
    data: StepOutput,
    model: StepOutput,
    root_uri: str,
    tracker: StepTracker,
) -> StepOutput:
    """Write two gradient stores, one of `model` (theta*) and one of the pretrained weights that it came from.

    Returns:
        The first store as `extract_gradients` does, with `base_uri` and `base_digest` of the second as metadata.

    Raises:
        InputError: the model's head means nothing before it is trained; and see `extract_gradients`.
    """
    model_config = ModelConfig(**training_result(model)["model"])
    untrained = produce_untrained_model(STEP, data, model_config, root_uri)
    base = extract_gradients(config, data, untrained, root_uri, tracker)
    meta = extract_gradients(config, data, model, root_uri, tracker)
    metadata = {**meta.metadata, "base_uri": base.uri, "base_digest": base.digest}
    return replace(meta, metadata=metadata, reused=meta.reused and base.reused)


def _is_finished(uri: str) -> bool:
    storage = open_storage(uri)
    if not storage.exists(MANIFEST):
        return False
    return {shard.key for shard in GradientStore(uri).shards} <= set(storage.keys())


def _write_store(
    config: GradientExtractionConfig, data: StepOutput, model: StepOutput, uri: str, tracker: StepTracker
) -> None:
    import torch

    from gradsift.components.gradient_extraction.extraction_processes import write_shards
    from gradsift.components.gradient_extraction.shard_writing import (
        ExtractionJob,
        data_without_test,
        shard_plans,
    )

    plans = shard_plans(data_without_test(data), config.shard_rows)
    total = sum(plan.stop - plan.start for plan in plans)
    processes = min(config.processes or torch.cuda.device_count() or 1, len(plans))
    with tqdm(total=total, unit="row", desc="extract gradients") as bar:

        def report(rows: int) -> None:
            bar.update(rows)
            tracker.progress(int(bar.n), total, "rows")

        header, records = write_shards(ExtractionJob(config, data, model, uri, processes), report)
    with GradientStoreWriter(open_storage(uri), header) as writer:
        writer.seal([records[plan] for plan in plans])
