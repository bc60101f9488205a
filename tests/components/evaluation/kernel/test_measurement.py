"""The kernel report on real text: MiniLM fine-tuned on sst2 by the default recipe."""

from pathlib import Path

import pytest
from synthetic_store import write_store

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.evaluation.kernel.expansion import Expansion
from gradsift.components.evaluation.kernel.measurement import measure
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import (
    FineTuningSettings,
    TrainingRecipe,
    TrainingSettings,
)
from gradsift.components.shared.records.fine_tuning_runs import MODELS, GroupSettings, PlannedRun, RunGroup
from gradsift.components.shared.tracking.tracking import track_step

PROJECTION = {"kind": "mixed blocks, fold", "seed": 0, "width": 8192}


@pytest.mark.slow
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
