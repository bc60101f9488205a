"""Fixtures of promotion: models of known accuracy, fine-tuned by a run that recorded them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradsift.components.shared.base_model import find_base_model
from gradsift.components.shared.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.prepared_data import PreparedData
from gradsift.components.shared.step_output import StepOutput, fetch, produce
from gradsift.components.shared.tracking import track_step

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

        def work(folder: Path) -> dict[str, Any]:
            model = EncoderClassifier.from_base(find_base_model(str(tiny_encoder)), head)
            with torch.no_grad():
                model.classifier.bias[head.classes.index(answer)] = 1.0
            model.save(folder)
            (folder / "training.json").write_text(
                json.dumps({"recipe": {"precision": "float32"}, "run": name})
            )
            return {}

        with track_step("target_finetuning", root, {}) as tracker:
            output = produce(root, "target_finetuning", {"run": name}, work)
            tracker.model(output)
        return output

    return run
