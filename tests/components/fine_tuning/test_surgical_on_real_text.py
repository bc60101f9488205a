"""Surgical fine-tuning of MiniLM on real text: its gain where labels mean something else, and its cost."""

import gzip
import json
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.fine_tuning.scope_sweep import choose_layers
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.suites import suite_folder
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.tune_scope import set_trained
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import FineTuningLayers, Scope, TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    GroupSettings,
    PlannedRun,
    RunGroup,
    base_digests,
)
from gradsift.components.shared.records.planning import sweep_runs
from gradsift.components.shared.records.run_answers import HeldOutAnswers
from gradsift.components.shared.records.scope_sweep import ScopeSweep
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.trained_model import produce_trained_model

DEMO = Path(suite_folder.__file__).parent / "demo_suite"
MODEL = ModelConfig(max_length=32)
ROWS = 96
PRECISELY = {"train_precision": "float32", "train_processes": 1}
SCOPES: list[Scope] = ["all", "early", "late"]
RATE = 2e-4
"""Four times the default: in 40 steps at that, no scope unlearns what the labels meant."""


def suite_of(folder: Path, flipped: bool) -> Path:
    """Write a suite of `mr` and 96 rows of `sst2`, whose label names are swapped in every split where asked for."""
    shutil.copytree(DEMO, folder)
    manifest = json.loads((DEMO / "manifest.json").read_text())
    tasks = {task["name"]: task for task in manifest["tasks"] if task["name"] in ("mr", "sst2")}
    target = tasks["sst2"]
    with gzip.open(DEMO / target["splits"]["train"]["file"], "rt") as file:
        rows = [json.loads(line) for line in file]
    cut = [row for label in (0, 1) for row in [each for each in rows if each["label"] == label][: ROWS // 2]]
    (folder / "cut.jsonl").write_text("\n".join(map(json.dumps, cut)))
    target["splits"]["train"] = {"file": "cut.jsonl"}
    if flipped:
        target["labels"] = {"0": "positive", "1": "negative"}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "tasks": list(tasks.values())}))
    return folder


def sweep_on(folder: Path, flipped: bool, seed: int) -> tuple[Scope, dict[Scope, HeldOutAnswers], np.ndarray]:
    """Fine-tune a model of `mr` on the target; return the choice, the answers of each scope and the labels."""
    root = str(folder / "root")
    suite = suite_of(folder / "suite", flipped)
    data = prepare_data(DataPreparationConfig(suite=str(suite), target="sst2"), root)
    prepared, settings = PreparedData(fetch(data)), PipelineSettings.of(PRECISELY)
    recipe = settings.run_recipe.model_copy(update={"seed": seed})
    with track_step("surgical", root, {}) as tracker:
        source_recipe = TrainingRecipe.of(settings.training, settings.meta_training)
        source = produce_trained_model("meta_training", data, ["mr"], MODEL, source_recipe, root, tracker)
        group = GroupSettings.of(data, prepared, base_digests(source), MODEL, recipe, source)
        run = PlannedRun.of(prepared, [], recipe)
        runs = sweep_runs(FineTuningLayers(scopes=SCOPES, rates=[RATE]), recipe, run)
        planned = RunGroup(purpose="sweep", number=0, settings=group, runs=runs)
        records = train_runs(planned, data, root, tracker)
    chosen = ScopeSweep.read(fetch(choose_layers(group, runs, root))).chosen.layers.scope
    answers = {
        scope: HeldOutAnswers.read(fetch(record)) for scope, record in zip(SCOPES, records, strict=True)
    }
    return chosen, answers, np.array(prepared.split("sst2", "test")["label"][:])


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", [0, 1])
def test_late_layers_learn_flipped_labels_that_the_others_do_not(tmp_path: Path, seed: int) -> None:
    chosen, answers, labels = sweep_on(tmp_path, flipped=True, seed=seed)
    accuracy = {scope: (each.labels.argmax(1) == labels).mean() for scope, each in answers.items()}  # type: ignore[union-attr]
    assert chosen == "late"
    assert accuracy["late"] >= accuracy["all"] + 0.10
    assert accuracy["late"] >= accuracy["early"] + 0.10


@pytest.mark.exhaustive
def test_where_labels_mean_the_same_the_choice_is_no_worse_than_all_layers(tmp_path: Path) -> None:
    chosen, answers, labels = sweep_on(tmp_path, flipped=False, seed=0)
    rows = np.arange(len(labels))
    losses = {scope: each.label_losses[rows, labels] for scope, each in answers.items()}  # type: ignore[index]
    gap = losses[chosen].astype(np.float64) - losses["all"]
    assert gap.mean() <= gap.std(ddof=1) / np.sqrt(len(gap))


@pytest.mark.slow
def test_late_layers_take_three_quarters_of_the_time_and_a_third_of_the_states(tmp_path: Path) -> None:
    """Steps of both kinds by turns, in CPU time, as other programs may run beside them."""
    data = prepare_data(DataPreparationConfig(auxiliary_tasks=["mr"]), str(tmp_path))
    prepared = PreparedData(fetch(data))
    seconds: dict[Scope, list[float]] = {"all": [], "late": []}
    models = {scope: from_base(MODEL, prepared).train() for scope in seconds}
    sizes = {scope: set_trained(model, scope, False)[0] for scope, model in models.items()}
    assert 3 * sizes["late"] == sizes["all"]
    rows = prepared.split("sst2", "train").select(range(32))
    for _ in range(5):
        for scope, model in models.items():
            batch = model.batch(model.encode(rows, "sst2"))
            optimizer = torch.optim.AdamW(each for each in model.parameters() if each.requires_grad)
            began = time.process_time()
            model(**batch)["loss"].backward()
            optimizer.step()
            seconds[scope].append(time.process_time() - began)
    assert statistics.median(seconds["late"]) <= 0.75 * statistics.median(seconds["all"])
