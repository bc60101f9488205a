"""What is measured of a final model by the weights that it started from, and MiniLM on real text."""

from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_store import write_store
from trained_encoder import trained_model

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.evaluation.kernel.expansion import Expansion
from gradsift.components.evaluation.kernel.measurement import measure
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.gradient_extraction.step import extract_gradients
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import (
    FineTuningSettings,
    Start,
    TrainingRecipe,
    TrainingSettings,
)
from gradsift.components.shared.records.fine_tuning_runs import MODELS, GroupSettings, PlannedRun, RunGroup
from gradsift.components.shared.records.kernel_report import Answered
from gradsift.components.shared.records.run_answers import ValidationAnswers
from gradsift.components.shared.tracking.tracking import track_step

PROJECTION = {"kind": "mixed blocks, fold", "seed": 0, "width": 8192}


@pytest.mark.parametrize(("start", "points"), [("base", ["base", "meta"]), ("meta", ["meta"])])
def test_the_step_is_that_from_the_weights_that_fine_tuning_started_from(
    start: Start, points: list[str], prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Every weight is moved by 0.001 to theta*, and by as much again, in the same direction, to the final model."""
    meta, final = (trained_model(tmp_path, tiny_encoder, prepared_data, change) for change in (0.001, 0.002))
    digest = write_store(f"{tmp_path}/store", dimension=64, projection=PROJECTION | {"width": 512})
    expansion = Expansion(meta, StepOutput(f"{tmp_path}/store", digest, {}))
    data, config = PreparedData(fetch(prepared_data)), EvaluationConfig(kernel_rows=20)
    report = measure(config, data, final, expansion, start, [], lambda done, total: None)
    assert [tangent.point for tangent in report.tangents] == points
    assert report.sign_kernels is None
    assert report.at_start.r2[-1] > 0.9
    shared = open_model(fetch(meta)).shared
    trained = [name for name, _ in shared.named_parameters() if "embeddings" not in name]
    weights = torch.cat([shared.get_parameter(name).flatten() for name in trained]).detach()
    step = len(weights) ** 0.5 * (0.001 if start == "meta" else 0.002)
    assert report.relative_step == pytest.approx(step / float(weights.norm()), rel=0.02)


def test_kernels_take_gradients_from_the_store_at_the_start_or_compute_them(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    """A store of other parameters is no help, and the answers are the same."""
    root, data = str(tmp_path), PreparedData(fetch(prepared_data))
    meta, final = (trained_model(tmp_path, tiny_encoder, prepared_data, change) for change in (0.001, 0.002))
    extraction = GradientExtractionConfig(
        dimension=64, projection_width=512, precision="float32", dtype="float32"
    )
    with track_step("extraction", root, {}) as tracker:
        store = extract_gradients(extraction, prepared_data, meta, root, tracker)
    projection = GradientStore(store.uri, store.digest).header.projection
    uri = f"{root}/other"
    other = StepOutput(uri, write_store(uri, dimension=64, projection=projection), {})
    rows = data.task(data.target).rows
    answers = ValidationAnswers(np.full(rows["val"], 0.5, np.float32), np.ones(rows["val"], np.bool_))
    config = EvaluationConfig(kernel_rows=8, sign_kernel=True)
    reports = []
    done: list[tuple[int, int]] = []

    def count(*rows: int) -> None:
        done.append(rows)

    for gradients, sketched in ((store, 0), (other, rows["train"])):
        done.clear()
        expansion = Expansion(meta, gradients)
        reports.append(measure(config, data, final, expansion, "meta", [answers], count))
        assert done[-1][0] == done[-1][1] == 3 * 8 + sketched + 2 * (rows["train"] + 8)
    stored, computed = (report.regression for report in reports)
    assert stored is not None
    assert computed is not None
    assert (stored.stored, computed.stored) == (True, False)
    assert stored.rows == stored.train_rows == computed.rows == rows["train"]
    assert [each.loss for each in stored.curve] == pytest.approx(
        [each.loss for each in computed.curve], rel=1e-3
    )
    signs = reports[0].sign_kernels
    assert signs is not None
    assert (signs.train_rows, signs.target_rows, signs.rows) == (rows["train"], rows["train"], 8)
    assert signs.start.loss == pytest.approx(reports[0].start.loss, rel=1e-4)
    assert signs.fine_tuned == Answered(loss=0.5, accuracy=1.0)
    assert [each.kernel for each in signs.kernels] == ["sgd", "a_sign", "sign"]


@pytest.mark.exhaustive
def test_fine_tuning_of_minilm_holds_in_direction_and_moves_its_features(tmp_path: Path) -> None:
    """96 rows of sst2, 40 steps from the pretrained weights; the fine-tuned model stands in for theta*."""
    root = str(tmp_path)
    data = prepare_data(DataPreparationConfig(auxiliary_tasks=["mr"], max_rows_per_task=96), root)
    prepared = PreparedData(fetch(data))
    model = ModelConfig().resolved(prepared.max_length)
    recipe = TrainingRecipe.of(TrainingSettings(), FineTuningSettings())
    base = find_base_model(model.base_model)
    settings = GroupSettings.of(data, prepared, [base.digest, base.tokenizer_digest], model, recipe)
    runs = [PlannedRun.of(prepared, [], recipe)]
    group = RunGroup(purpose="selected", number=0, settings=settings, runs=runs, weights=MODELS)
    with track_step("target_finetuning", root, {}) as tracker:
        [tuned] = train_runs(group, data, root, tracker)
    store = f"{root}/store"
    digest = write_store(store, dimension=400, blocks=4, projection=PROJECTION)
    expansion = Expansion(tuned, StepOutput(store, digest, {}))
    done: list[tuple[int, int]] = []
    config = EvaluationConfig(kernel_rows=100)
    report = measure(config, prepared, tuned, expansion, "base", [], lambda *rows: done.append(rows))

    tangent = report.at_start
    assert (report.rows, report.val_rows, done[-1]) == (100, 481, (396, 396))
    assert tangent.point == "base"
    assert tangent.r2 == sorted(tangent.r2, reverse=True)
    assert tangent.verdict == "holds in direction"
    assert report.start.accuracy < min(tangent.answered.accuracy, report.fine_tuned.accuracy)
    assert not report.features.fixed
    assert report.features.growth > 2
    assert report.features.projection_cosine > 0.8
    assert report.regression is not None
    assert (report.regression.rows, report.regression.stored) == (96, False)
    assert report.regression.best.loss < min(report.start.loss, report.fine_tuned.loss)
