"""What is measured of a final model by the weights that it started from, and MiniLM on real text."""

from pathlib import Path

import pytest
import torch
from synthetic_store import write_store
from trained_encoder import trained_model

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.evaluation.kernel.expansion import Expansion
from gradsift.components.evaluation.kernel.measurement import measure
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import (
    FineTuningSettings,
    Start,
    TrainingRecipe,
    TrainingSettings,
)
from gradsift.components.shared.records.fine_tuning_runs import MODELS, GroupSettings, PlannedRun, RunGroup
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
    report = measure(config, data, final, expansion, start, lambda done, total: None)
    assert [tangent.point for tangent in report.tangents] == points
    assert report.at_start.r2[-1] > 0.9
    shared = open_model(fetch(meta)).shared
    trained = [name for name, _ in shared.named_parameters() if "embeddings" not in name]
    weights = torch.cat([shared.get_parameter(name).flatten() for name in trained]).detach()
    step = len(weights) ** 0.5 * (0.001 if start == "meta" else 0.002)
    assert report.relative_step == pytest.approx(step / float(weights.norm()), rel=0.02)


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
    report = measure(config, prepared, tuned, expansion, "base", lambda *rows: done.append(rows))

    tangent = report.at_start
    assert (report.rows, report.val_rows, done[-1]) == (100, 481, (300, 300))
    assert tangent.point == "base"
    assert tangent.r2 == sorted(tangent.r2, reverse=True)
    assert tangent.verdict == "holds in direction"
    assert report.start.accuracy < min(tangent.answered.accuracy, report.fine_tuned.accuracy)
    assert not report.features.fixed
    assert report.features.growth > 2
    assert report.features.projection_cosine > 0.8
