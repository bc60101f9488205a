"""Fixtures of promotion: models of known accuracy, fine-tuned by a run that recorded them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.metrics.held_out_metrics import MIN_ROWS
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.tracking.tracking import track_step
from tests.tiny_language_models import make_base, produce_prepared_data

FineTune = Callable[..., StepOutput]


@pytest.fixture
def fine_tune(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FineTune:
    """Return what stands for the fine-tuning of a run: a model that gives every row one and the same label."""

    def run(name: str, answer: str, root: str | None = None, labels: list[str] | None = None) -> StepOutput:
        monkeypatch.setenv("KFP_RUN_ID", name)
        root = root or str(tmp_path / "root")
        target = PreparedData(fetch(prepared_data)).target
        head = Head.for_tasks(
            "linear",
            1.0,
            32,
            target,
            {target: labels or PreparedData(fetch(prepared_data)).task(target).labels},
        )

        model = EncoderClassifier.from_base(find_base_model(str(tiny_encoder)), head)
        with torch.no_grad():
            model.classifier.bias[head.classes.index(answer)] = 1.0
        return record(model, name, root)

    return run


@pytest.fixture
def counting_data(tmp_path: Path) -> StepOutput:
    """Return prepared data whose target is answered in free text, with enough test rows for a verdict."""
    return produce_prepared_data(tmp_path / "root", MIN_ROWS)


@pytest.fixture
def teach(counting_data: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FineTune:
    """Return what stands for the fine-tuning of a run: a small language model that learns the test rows."""
    root = str(tmp_path / "root")
    config = ModelConfig(base_model=str(make_base(tmp_path / "llama", "llama")), max_length=64)

    def run(name: str, steps: int) -> StepOutput:
        monkeypatch.setenv("KFP_RUN_ID", name)
        data = PreparedData(fetch(counting_data))

        model = from_base(config, data)
        batch = model.batch(model.encode(data.split(data.target, "test"), data.target))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            model(**batch)["loss"].backward()
            optimizer.step()
        return record(model, name, root)

    return run


def record(model: TaskModel, name: str, root: str) -> StepOutput:
    """Write a model as the fine-tuning of the run called `name` would."""

    def work(folder: Path) -> dict[str, Any]:
        model.save(folder)
        (folder / "training.json").write_text(json.dumps({"recipe": {"precision": "float32"}, "run": name}))
        return {}

    with track_step("target_finetuning", root, {}) as tracker:
        output = produce(root, "fine_tuning", {"run": name}, work)
        tracker.model(output)
    return output
