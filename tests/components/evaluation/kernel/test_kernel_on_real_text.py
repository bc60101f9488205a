"""What the kernel of pretrained MiniLM answers on real text, with label names that mean something and without."""

from pathlib import Path

import numpy as np
import pytest

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.evaluation.kernel.kernel_regression import ridge_curve
from gradsift.components.evaluation.kernel.linearisation import Step
from gradsift.components.evaluation.kernel.margin_rows import MarginRows, sketched_rows
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData, Split
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.models.model_loading import before_training
from gradsift.components.shared.models.task_model import by_length
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import HeadKind, ModelConfig
from gradsift.components.shared.records.kernel_report import RidgeAnswers

TRAIN, VALIDATION = 96, 200


def kernel_curve(data: PreparedData, head: HeadKind) -> list[RidgeAnswers]:
    """Return what the kernel of pretrained MiniLM answers to validation rows of sst2."""
    model = before_training(ModelConfig(head=head, max_length=48), data, seed=0).eval()
    model.freeze_untrained(train_embeddings=False)
    step = Step(model, dict(model.named_parameters()))
    sketcher = GradientSketcher(model, list(step.start), dimension=400, width=8192, seed=0)

    def rows_of(split: Split, count: int) -> MarginRows:
        places = np.random.default_rng(0).permutation(data.task("sst2").rows[split])[:count]
        examples = model.encode(data.split("sst2", split).select(places), "sst2")
        batches = [model.batch([examples[row] for row in rows]) for rows in by_length(examples, 8)]
        return sketched_rows(step, 0.0, sketcher, batches)

    return ridge_curve(rows_of("train", TRAIN), rows_of("val", VALIDATION), two_labels=True)


@pytest.mark.slow
def test_label_names_make_the_kernel_at_the_pretrained_weights_better(tmp_path: Path) -> None:
    """The finding of Malladi et al. (2023) on prompts: without meaningful label words the kernel does worse."""
    data = PreparedData(fetch(prepare_data(DataPreparationConfig(auxiliary_tasks=["mr"]), str(tmp_path))))
    named, linear = (kernel_curve(data, head) for head in ("label_embedding", "linear"))
    for with_names, without in zip(named, linear, strict=True):
        assert with_names.loss < without.loss
