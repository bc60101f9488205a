"""Measures how far the final model's fine-tuning kept to first order, on validation rows of the target."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from gradsift.components.evaluation.kernel.expansion import Expansion
from gradsift.components.evaluation.kernel.fixed_features import features_of, margin_gradients
from gradsift.components.evaluation.kernel.linearisation import Step, Weights, linearise
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.models.base_model import find_known_base_model
from gradsift.components.shared.models.model_loading import before_training, open_model
from gradsift.components.shared.models.task_model import READ_BATCH, Batch, TaskModel, by_length
from gradsift.components.shared.models.threads import use_given_cores
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.process.gpus import gpu_memory_errors
from gradsift.components.shared.records.fine_tuning_runs import base_digests
from gradsift.components.shared.records.kernel_report import KernelReport
from gradsift.components.shared.training.trained_model import training_result

NO_ROOM = (
    "The kernel report does not fit into the GPU's memory, as it holds the weights of up to five models: expected "
    "evaluate_kernel_rows 0 for this base model, or a larger GPU."
)


def measure(
    config: EvaluationConfig,
    data: PreparedData,
    model: StepOutput,
    expansion: Expansion,
    start: Start,
    report: Callable[[int, int], None],
) -> KernelReport:
    """Compare the final model with what is linear in the step that its fine-tuning took.

    Args:
        config: how many rows, and the seed that draws them.
        data: the prepared data.
        model: the final model.
        expansion: what the estimates expand around.
        start: the weights that fine-tuning started from.
        report: called with the number of rows done and that of all rows, each of which is read three times.

    Raises:
        InputError: the base model is not found, or is another one than before; or the models do not fit into the
            GPU's memory.
        GradientStoreError: the gradient store is unfinished or altered.
        GpuMemoryError: other processes hold the GPU's memory.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    use_given_cores()
    rows = _drawn_rows(config, data)
    done = 0

    def counted() -> Iterator[Batch]:
        nonlocal done
        for batch in batches:
            yield batch
            done += len(batch["label"])
            report(done, 3 * len(rows))

    with gpu_memory_errors(device, NO_ROOM):
        tuned = open_model(fetch(model)).to(device)
        tuned.freeze_untrained(_model_config(model).train_embeddings)
        points: dict[Start, Weights] = {"meta": _parameters(open_model(fetch(expansion.model)).to(device))}
        if start == "base":
            points = {"base": _parameters(_untrained(data, model).to(device)), **points}
        step = Step(tuned, points[start])
        batches = _batches(tuned, data, rows)
        found = linearise(step, points, counted())
        sketcher = _sketcher(tuned, step, expansion.gradients)
        before, after = (margin_gradients(step, share, sketcher, counted()) for share in (0.0, 1.0))
    return KernelReport(
        rows=len(rows),
        val_rows=data.task(data.target).rows["val"],
        relative_step=step.relative_length,
        start=found.start.answered,
        fine_tuned=found.along[-1].answered,
        tangents=found.tangents(),
        features=features_of(before, after),
    )


def _untrained(data: PreparedData, model: StepOutput) -> TaskModel:
    """Return the model as the fine-tuning found it that started from the pretrained weights."""
    config = _model_config(model)
    find_known_base_model(config.base_model, *base_digests(model))
    return before_training(config, data, training_result(model)["recipe"]["seed"])


def _model_config(model: StepOutput) -> ModelConfig:
    return ModelConfig(**training_result(model)["model"])


def _parameters(model: TaskModel) -> Weights:
    return dict(model.named_parameters())


def _drawn_rows(config: EvaluationConfig, data: PreparedData) -> list[int]:
    """Return the places of the validation rows to measure, in their order: all where there are no more."""
    order = np.random.default_rng(config.seed).permutation(data.task(data.target).rows["val"])
    return sorted(order[: config.kernel_rows].tolist())


def _batches(model: TaskModel, data: PreparedData, rows: list[int]) -> list[Batch]:
    examples = model.encode(data.split(data.target, "val").select(rows), data.target)
    return [model.batch([examples[row] for row in batch]) for batch in by_length(examples, READ_BATCH)]


def _sketcher(model: TaskModel, step: Step, gradients: StepOutput) -> GradientSketcher:
    """Return a sketcher of what the step trained, by the projection of the gradient store; it freezes the model."""
    header = GradientStore(gradients.uri, gradients.digest).header
    width, seed = header.projection["width"], header.projection["seed"]
    return GradientSketcher(model, list(step.start), header.dimension, width, seed)
