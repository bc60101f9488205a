"""Health of real tasks beside copies of them whose labels were shuffled or flipped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.gradient_extraction.step import extract_gradients
from gradsift.components.meta_training.step import meta_train
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.suites import suite_folder
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.selection_results import TaskHealth
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.subset_estimation.estimators.ridge import ridge_of
from gradsift.components.subset_estimation.explanations.task_health import task_health
from gradsift.components.subset_estimation.statistics.store_reading import read_statistics

SOURCES = ("mr", "subj", "trec", "clinc_domain", "dbpedia", "mnli", "blimp_agreement", "adult_text")
KINDS = ("shuffled", "flipped")


def suite_of_three_versions(folder: Path) -> Path:
    """Write the demo's suite with a shuffled and a flipped copy of every source."""
    demo = Path(suite_folder.__file__).parent / "demo_suite"
    shutil.copytree(demo, folder)
    manifest = json.loads((demo / "manifest.json").read_text())
    tasks = [task for task in manifest["tasks"] if task["name"] in ("sst2", *SOURCES)]
    for name in SOURCES:
        tasks.append({"name": f"{name}_flipped", "derived_from": name, "corruption": "flip_labels"})
        tasks.append(
            {"name": f"{name}_shuffled", "derived_from": name, "corruption": "shuffle_labels", "seed": 0}
        )
    (folder / "manifest.json").write_text(json.dumps({**manifest, "tasks": tasks}))
    return folder


@pytest.mark.exhaustive
def test_shuffled_and_flipped_copies_are_told_from_the_clean_sources(tmp_path: Path) -> None:
    suite, root = suite_of_three_versions(tmp_path / "suite"), str(tmp_path / "root")
    settings = PipelineSettings.of({"suite": str(suite), "target": "sst2", "prepare_max_rows_per_task": 96})
    extraction = GradientExtractionConfig.of(settings.extraction, settings.fine_tuning_layers.scopes)
    meta_recipe = TrainingRecipe.of(settings.training, settings.meta_training)
    recipe = TrainingRecipe.of(settings.training, settings.fine_tuning)
    data = prepare_data(settings.data, root, settings.model)
    with track_step("health", root, {}) as tracker:
        meta = meta_train(settings.model, meta_recipe, data, root, tracker)
        gradients = extract_gradients(extraction, data, meta, root, tracker)
    store = GradientStore(gradients.uri, gradients.digest)
    statistics = read_statistics(store)
    config = SubsetEstimationConfig.of(settings.estimation, recipe, meta_recipe, "base")
    found = task_health(store, statistics, ridge_of(config, statistics), PreparedData(fetch(data)))
    health = {each.task: each for each in found}
    clean = [health[name] for name in SOURCES]
    copies = {kind: [health[f"{name}_{kind}"] for name in SOURCES] for kind in KINDS}
    # .83 to .91 by the split into halves: three of the clean sources cannot be learned from 96 rows either.
    assert separation(clean, copies["shuffled"], "adapted") >= 0.8
    assert separation(clean, copies["shuffled"], "zero_shot") >= 0.9
    assert separation(clean, copies["flipped"], "zero_shot") >= 0.9
    on_labels = {"random_labels", "contradicted_labels"}
    assert sum(bool(on_labels & set(each.findings)) for each in clean) <= 1


def separation(clean: list[TaskHealth], copies: list[TaskHealth], figure: str) -> float:
    """Return the area under the ROC curve with which a figure tells copies from clean sources."""
    values = [getattr(each, figure) for each in (*clean, *copies)]
    return float(roc_auc_score(np.repeat([0, 1], len(clean)), values))
