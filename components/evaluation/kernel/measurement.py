"""Measures how far the final model's fine-tuning kept to first order, on validation rows of the target."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from gradsift.components.evaluation.kernel.expansion import Expansion
from gradsift.components.evaluation.kernel.fixed_features import features_of
from gradsift.components.evaluation.kernel.kernel_regression import ridge_curve
from gradsift.components.evaluation.kernel.linearisation import Reading, Step, Weights, linearise
from gradsift.components.evaluation.kernel.margin_rows import MarginRows, sketched_rows, stored_rows
from gradsift.components.evaluation.kernel.sign_kernels import gradient_parts, gradient_products, regress
from gradsift.components.evaluation.kernel.train_rows import MAX_ROWS, drawn_rows, store_at_start
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData, Split
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.models.base_model import find_known_base_model
from gradsift.components.shared.models.model_loading import before_training, open_model
from gradsift.components.shared.models.task_model import READ_BATCH, Batch, TaskModel, by_length
from gradsift.components.shared.models.threads import use_given_cores
from gradsift.components.shared.models.tune_scope import set_trained
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Start, TrainingRecipe
from gradsift.components.shared.process.gpus import gpu_memory_errors
from gradsift.components.shared.records.fine_tuning_runs import base_digests
from gradsift.components.shared.records.kernel_report import (
    Answered,
    KernelRegression,
    KernelReport,
    SignKernels,
)
from gradsift.components.shared.records.run_answers import ValidationAnswers
from gradsift.components.shared.training.trained_model import training_result

NO_ROOM = (
    "The kernel report does not fit into the GPU's memory, as it holds the weights of up to five models: expected "
    "evaluate_kernel_rows 0 for this base model, or a larger GPU."
)
MAX_SIGN_ROWS = 100
"""Largest number of the target's train rows, and of validation rows, for kernels of whole gradients."""


def measure(
    config: EvaluationConfig,
    data: PreparedData,
    model: StepOutput,
    expansion: Expansion,
    start: Start,
    target_only: Sequence[ValidationAnswers],
    report: Callable[[int, int], None],
) -> KernelReport:
    """Compare the final model with what is linear in the step that its fine-tuning took.

    Args:
        config: how many rows, the seed that draws them, and whether kernels of signs are wanted.
        data: the prepared data.
        model: the final model.
        expansion: what the estimates expand around.
        start: the weights that fine-tuning started from.
        target_only: answers of the models that were fine-tuned on the target alone, one or more, where kernels of
            signs are wanted.
        report: called with the number of rows read and that of all rows, a row counting as often as it is read.

    Raises:
        InputError: the base model is not found, or is another one than before; or the models do not fit into the
            GPU's memory.
        GradientStoreError: the gradient store is unfinished or altered.
        GpuMemoryError: other processes hold the GPU's memory.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    use_given_cores()
    with gpu_memory_errors(device, NO_ROOM):
        measurement = _Measurement(config, data, model, expansion, start, device, report)
        return measurement.kernel_report(target_only)


class _Measurement:
    """The final model with the step of its fine-tuning, and the rows that it reads.

    Attributes:
        rows: places of the validation rows, in the order of their drawing.
        train: places of the final model's train rows that the kernel regression takes, by task.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        data: PreparedData,
        model: StepOutput,
        expansion: Expansion,
        start: Start,
        device: torch.device,
        report: Callable[[int, int], None],
    ) -> None:
        trained = training_result(model)
        settings, recipe = ModelConfig(**trained["model"]), TrainingRecipe(**trained["recipe"])
        self.data = data
        self.model = open_model(fetch(model)).to(device)
        set_trained(self.model, recipe.scope, settings.train_embeddings)
        self.points: dict[Start, Weights] = {"meta": _parameters(open_model(fetch(expansion.model)), device)}
        if start == "base":
            find_known_base_model(settings.base_model, *base_digests(model))
            untrained = before_training(settings, data, recipe.seed)
            self.points = {"base": _parameters(untrained, device), **self.points}
        self.step = Step(self.model, self.points[start])
        self.header = GradientStore(expansion.gradients.uri, expansion.gradients.digest).header
        order = np.random.default_rng(config.seed).permutation(data.task(data.target).rows["val"])
        self.rows: list[int] = order[: config.kernel_rows].tolist()
        self.train = drawn_rows(data, trained["tasks"], MAX_ROWS, config.seed)
        self.stored = store_at_start(expansion.gradients, settings, start, self.step)
        self.sign_rows: list[int] = []
        if config.sign_kernel and self._by_label:
            self.sign_rows = drawn_rows(data, [data.target], MAX_SIGN_ROWS, config.seed)[data.target]
        self._report, self._done, self._total = report, 0, self._rows_to_read()

    def kernel_report(self, target_only: Sequence[ValidationAnswers]) -> KernelReport:
        signs = self._sign_kernels(target_only) if self.sign_rows else None
        found = linearise(self.step, self.points, self._batches(self.data.target, "val", self.rows))
        header = self.header
        sketcher = GradientSketcher(  # from here on the model has hooks
            self.model,
            list(self.step.start),
            header.dimension,
            header.projection["width"],
            header.projection["seed"],
        )
        before, after = (
            sketched_rows(self.step, share, sketcher, self._batches(self.data.target, "val", self.rows))
            for share in (0.0, 1.0)
        )
        return KernelReport(
            rows=len(self.rows),
            val_rows=self.data.task(self.data.target).rows["val"],
            relative_step=self.step.relative_length,
            start=found.start.answered,
            fine_tuned=found.along[-1].answered,
            tangents=found.tangents(),
            features=features_of(before.gradient, after.gradient),
            regression=self._regression(sketcher, before) if self._by_label else None,
            sign_kernels=signs,
        )

    def _regression(self, sketcher: GradientSketcher, validation: MarginRows) -> KernelRegression:
        if self.stored is not None:
            train = stored_rows(self.stored, self.train)
        else:
            batches = (
                batch for task, places in self.train.items() for batch in self._batches(task, "train", places)
            )
            train = sketched_rows(self.step, 0.0, sketcher, batches)
        return KernelRegression(
            rows=len(train.margin),
            train_rows=sum(self.data.task(task).rows["train"] for task in self.train),
            stored=self.stored is not None,
            curve=ridge_curve(train, validation, self._two_labels),
        )

    def _sign_kernels(self, target_only: Sequence[ValidationAnswers]) -> SignKernels:
        target, held = self.data.target, self.rows[:MAX_SIGN_ROWS]
        train = list(self._batches(target, "train", self.sign_rows, 1))
        validation = list(self._batches(target, "val", held, 1))
        products = gradient_products(self.step, [*train, *validation], len(train), self._count)
        with torch.no_grad():
            answers = [self.step.answers(batch, 0.0) for batch in (*train, *validation)]
        readings = [Reading.of(each) for each in answers]
        margin = Reading.joined(readings).margin
        positions = torch.cat([each.positions for each in answers]).cpu().double().numpy()
        return SignKernels(
            train_rows=len(train),
            target_rows=self.data.task(target).rows["train"],
            rows=len(validation),
            start=Reading.joined(readings[len(train) :]).answered,
            fine_tuned=Answered(
                loss=float(np.mean([each.loss[held].mean() for each in target_only])),
                accuracy=float(np.mean([each.right[held].mean() for each in target_only])),
            ),
            kernels=regress(products, margin, positions, self._two_labels),
        )

    @property
    def _by_label(self) -> bool:
        return self.header.answer != "text"

    @property
    def _two_labels(self) -> bool:
        return self.header.answer == "class" and len(self.data.task(self.data.target).labels) == 2

    def _batches(
        self, task: str, split: Split, places: Sequence[int], batch_size: int = READ_BATCH
    ) -> Iterator[Batch]:
        """Yield rows in batches of like lengths, and report each batch once it has been used."""
        examples = self.model.encode(self.data.split(task, split).select(sorted(places)), task)
        for batch in by_length(examples, batch_size):
            yield self.model.batch([examples[row] for row in batch])
            self._count(len(batch))

    def _count(self, rows: int) -> None:
        self._done += rows
        self._report(self._done, self._total)

    def _rows_to_read(self) -> int:
        """Return how often rows are read: three times for the linearisation and the features, then for kernels."""
        total = 3 * len(self.rows)
        if self._by_label and self.stored is None:
            total += sum(map(len, self.train.values()))
        if self.sign_rows:
            rows = len(self.sign_rows) + min(len(self.rows), MAX_SIGN_ROWS)
            total += rows * (1 + len(gradient_parts(self.step, rows)))
        return total


def _parameters(model: TaskModel, device: torch.device) -> Weights:
    return dict(model.to(device).named_parameters())
