"""What one process does of an extraction: load the model, check it, and write its share of the shards."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch

from gradsift.components.gradient_extraction.gradients.extraction import GradientExtractor
from gradsift.components.gradient_extraction.gradients.starting_point import StartingPoint
from gradsift.components.gradient_extraction.gradients.training_start import TrainingStart
from gradsift.components.gradient_extraction.shards.parts import Part, ShardPlan, shards_of_part
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import INDEX, PreparedData, PreparedTask
from gradsift.components.shared.errors import GpuMemoryError
from gradsift.components.shared.gradient_store.gradient_format import Answer, ShardRecord, StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import GradientStoreWriter
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.frozen_weights import store_base_as_computed
from gradsift.components.shared.models.model_loading import before_training, open_model
from gradsift.components.shared.models.precision import resolve_precision
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.models.threads import use_given_cores
from gradsift.components.shared.models.tune_scope import parameters_in
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.process.gpus import gpu_memory_errors
from gradsift.components.shared.process.outages import wait_out
from gradsift.components.shared.storage.storage import open_storage

NO_ROOM = "The model does not fit into the GPU's memory: expected a smaller base model or a larger GPU."


@dataclass(frozen=True)
class ExtractionJob:
    """An extraction, as every process of it gets it.

    Attributes:
        config: the settings.
        data: the prepared data.
        model: the meta-trained model, theta*, or the model before meta-training.
        start: what meta-training started from; None where `model` is that.
        uri: where the gradient store goes.
        part: the part of it that is to be done.
        processes: how many share that; each takes every such shard.
    """

    config: GradientExtractionConfig
    data: StepOutput
    model: StepOutput
    start: TrainingStart | None
    uri: str
    part: Part
    processes: int


def data_without_test(data: StepOutput) -> PreparedData:
    """Return the prepared data with train rows and the target's validation rows alone on the local disk."""
    prepared = PreparedData(fetch(data, [INDEX]))
    splits = [file for task in prepared.tasks for file in task.files("train")]
    return PreparedData(fetch(data, [INDEX, *splits, *prepared.task(prepared.target).files("val")]))


def write_share(
    job: ExtractionJob, process: int, report: Callable[[int], None]
) -> tuple[StoreHeader, dict[ShardPlan, ShardRecord]]:
    """Write the shards of one process, except those that exist already.

    Where other processes hold the GPU's memory, it is waited for (see `outages`).

    Args:
        job: the extraction.
        process: which of its processes this is, from 0.
        report: called with the number of rows after every batch.

    Returns:
        The store's header and the records of this process's shards.

    Raises:
        InputError: the model, or one of its rows, does not fit into the GPU's memory.
        GpuMemoryError: other processes hold the GPU's memory.
    """
    device = _device(process, job.processes)
    reported = 0

    def count(rows: int) -> None:
        nonlocal reported
        reported += rows
        report(rows)

    def write() -> tuple[StoreHeader, dict[ShardPlan, ShardRecord]]:
        count(-reported)
        with gpu_memory_errors(device, NO_ROOM):
            return _write_share(job, process, device, count)

    return wait_out(GpuMemoryError, write)


def _write_share(
    job: ExtractionJob, process: int, device: torch.device, report: Callable[[int], None]
) -> tuple[StoreHeader, dict[ShardPlan, ShardRecord]]:
    data = data_without_test(job.data)
    plans = shards_of_part(data, job.config.shard_rows, job.part)[process :: job.processes]
    model = open_model(fetch(job.model)).to(device)
    train_embeddings = job.model.metadata["train_embeddings"]
    model.freeze_untrained(train_embeddings)
    start = _starting_point(job, model, data)
    parameters = _parameters(model, job.config, train_embeddings)
    header = _header(job, data.task(data.target), model, parameters, start)
    extractor = GradientExtractor(model, parameters, job.config, start)
    checked = False
    records = {}
    with GradientStoreWriter(open_storage(job.uri), header) as writer:
        for plan in plans:
            record = writer.finished_shard(plan.task, plan.split, plan.index)
            if record is None:
                rows = data.split(plan.task, plan.split).select(range(plan.start, plan.stop))
                if not checked:
                    extractor.check(rows, plan.task)
                    store_base_as_computed(model, job.config.precision)  # the check is in float32
                    checked = True
                shard = extractor.shard(rows, plan.task, report)
                record = writer.write_shard(plan.task, plan.split, plan.index, shard)
            else:
                report(record.rows)
            records[plan] = record
    return header, records


def _device(process: int, processes: int) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", process % torch.cuda.device_count())
    use_given_cores(processes)
    return torch.device("cpu")


def _parameters(model: TaskModel, config: GradientExtractionConfig, train_embeddings: bool) -> list[str]:
    """Return the names of the parameters whose gradient is wanted."""
    module = model.shared if config.parameters == "shared" else model
    inside = {id(parameter) for parameter in parameters_in(model, config.scope, train_embeddings)}
    chosen = {id(each) for each in module.parameters() if each.requires_grad} & inside
    return [name for name, parameter in model.named_parameters() if id(parameter) in chosen]


def _starting_point(job: ExtractionJob, model: TaskModel, data: PreparedData) -> StartingPoint | None:
    if job.start is None:
        return None
    untrained = before_training(job.start.model, data, job.start.seed)
    return StartingPoint(model, dict(untrained.named_parameters()))


def _header(
    job: ExtractionJob,
    target: PreparedTask,
    model: TaskModel,
    parameters: list[str],
    start: StartingPoint | None,
) -> StoreHeader:
    config = job.config
    return StoreHeader(
        dimension=config.dimension,
        blocks=config.blocks,
        probes=config.probes,
        hidden=model.hidden_size if config.hidden_states else None,
        projection={"kind": "mixed blocks, fold", "seed": config.seed, "width": config.projection_width},
        parameters=parameters,
        base_model_digest=job.model.metadata["base_model_digest"],
        model_digest=job.model.digest,
        squared_step_norm=0.0 if start is None else start.squared_step_norm,
        tokenizer_digest=job.model.metadata["tokenizer_digest"],
        data_digest=job.data.digest,
        target=target.name,
        answer=_answer(target, model),
        shard_rows=config.shard_rows,
        precision=resolve_precision(config.precision),
        dtype=config.dtype,
        versions={name: version(name) for name in ("gradsift", "torch", "transformers", "numpy")},
    )


def _answer(target: PreparedTask, model: TaskModel) -> Answer:
    if isinstance(model, EncoderClassifier):
        return "class"
    return "label" if target.kind == "classification" else "text"
