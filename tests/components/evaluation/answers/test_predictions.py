"""Which models are trained, how often, and what stays of them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradsift.components.evaluation.answers.predictions import FineTuning, predict_all, predict_base
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.model_answers import answer
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Precision, TrainingRecipe
from gradsift.components.shared.tracking.tracking import track_step

PRECISIONS: tuple[Precision, Precision] = ("float32", "bf16")
RECIPE = TrainingRecipe(steps=2, batch_size=8, precision="float32", processes=1)


@pytest.fixture
def data(prepared_data: StepOutput) -> PreparedData:
    return PreparedData(Path(prepared_data.uri))


@pytest.fixture
def given_model(tiny_encoder: Path, data: PreparedData, tmp_path: Path) -> Path:
    """A model's folder; nothing was trained."""
    labels = {task.name: task.labels for task in data.tasks}
    head = Head.for_tasks("label_embedding", 15.0, 32, data.target, labels)
    EncoderClassifier.from_base(find_base_model(str(tiny_encoder)), head).save(tmp_path / "given")
    return tmp_path / "given"


def run(
    runs: list[FineTuning], finished: dict[str, Path], data: PreparedData, encoder: Path, root: Path
) -> Any:
    with track_step("evaluation", str(root), {}) as tracker:
        return predict_all(
            runs, finished, data, ModelConfig(base_model=str(encoder)), RECIPE, root / "output", tracker
        )


def test_runs_on_the_same_tasks_with_the_same_seed_are_one() -> None:
    assert FineTuning(["mr", "trec"], 0).key == FineTuning(["trec", "mr"], 0).key
    others = [
        FineTuning(["mr", "trec"], 1),
        FineTuning(["mr"], 0),
        FineTuning([], 0),
        FineTuning(["mr,trec"], 0),
    ]
    assert len({run.key for run in [FineTuning(["mr", "trec"], 0), *others]}) == 5


def test_each_run_is_trained_once_and_its_model_deleted(
    data: PreparedData, tiny_encoder: Path, given_model: Path, tmp_path: Path
) -> None:
    mr, same, none = FineTuning(["mr"], 0), FineTuning(["mr"], 0), FineTuning([], 0)
    twice, other_seed = FineTuning(["mr"], 0), FineTuning([], 1)
    runs = [mr, same, none, twice, other_seed]
    found = run(runs, {mr.key: given_model}, data, tiny_encoder, tmp_path)
    assert list(found) == [mr.key, none.key, other_seed.key]
    jobs = json.loads((tmp_path / "output-processes" / "jobs.json").read_text())
    assert [(job["tasks"], job["recipe"]["seed"]) for job in jobs] == [(["sst2"], 0), (["sst2"], 1)]
    assert not list(tmp_path.glob("output-processes/**/*.safetensors"))
    assert (given_model / "model.safetensors").exists()
    expected = answer(EncoderClassifier.load(given_model), data, "float32")
    for name in ("val_loss", "test_loss", "labels"):
        assert np.array_equal(getattr(found[mr.key], name), getattr(expected, name))
    rows, given = data.task("sst2").rows, found[none.key].labels
    assert given.shape == (rows["test"], 2)
    assert np.allclose(np.exp(given).sum(1), 1, atol=1e-5)
    assert not np.allclose(given, found[other_seed.key].labels)
    right = np.array(data.split("sst2", "test")["label"][:])
    assert np.array_equal(found[none.key].test_loss, -given[np.arange(len(right)), right])
    assert found[none.key].val_loss.shape == (rows["val"],)
    assert (found[none.key].token_accuracy, found[none.key].written) == (None, None)


def test_a_restart_trains_only_what_has_not_predicted(
    data: PreparedData, tiny_encoder: Path, given_model: Path, tmp_path: Path
) -> None:
    """Without a finished model every run would have to be trained: no training starts."""
    runs = [FineTuning(["mr"], 0), FineTuning([], 0)]
    first = run(runs, {each.key: given_model for each in runs}, data, tiny_encoder, tmp_path)
    left_by_a_kill = tmp_path / "output-processes" / runs[1].key
    left_by_a_kill.mkdir(parents=True)
    again = run(runs, {}, data, tiny_encoder, tmp_path)
    assert not (tmp_path / "output-processes" / "jobs.json").exists()
    assert not left_by_a_kill.exists()
    assert all(np.array_equal(again[key].labels, first[key].labels) for key in first)


def test_the_base_model_is_measured_where_it_needs_no_trained_head(
    data: PreparedData, tiny_encoder: Path
) -> None:
    base = predict_base(data, ModelConfig(base_model=str(tiny_encoder)), "float32")
    assert base is not None
    assert base.labels is not None
    assert base.labels.shape == (data.task("sst2").rows["test"], 2)
    assert predict_base(data, ModelConfig(base_model=str(tiny_encoder), head="linear"), "float32") is None


def test_bf16_predictions_are_close_and_float32(data: PreparedData, given_model: Path) -> None:
    model = EncoderClassifier.load(given_model)
    exact, fast = (answer(model, data, precision) for precision in PRECISIONS)
    assert exact.labels is not None
    assert fast.labels is not None
    assert fast.labels.dtype == fast.val_loss.dtype == np.float32
    assert 0 < np.abs(fast.labels - exact.labels).mean() < 0.1
    assert math.isclose(np.exp(fast.labels).sum(), len(fast.labels), rel_tol=1e-5)
