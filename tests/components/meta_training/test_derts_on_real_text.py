"""The coverage sampler on real text: it chooses 6 of 24 sources, of which 8 are shuffled and 8 are flipped."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.suites import suite_folder
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.trained_model import produce_trained_model

DEMO = Path(suite_folder.__file__).parent / "demo_suite"
MODEL = ModelConfig(max_length=32)
TARGET, TARGET_ROWS, TRAIN_ROWS = "sst2", 48, 96
CLEAN = ["mr", "subj", "trec", "clinc_domain", "dbpedia", "adult_text", "mnli", "blimp_npi"]
CORRUPTIONS = {
    "shuffled": {"corruption": "shuffle_labels", "seed": 0},
    "flipped": {"corruption": "flip_labels"},
}
SOURCES = [*CLEAN, *(f"{name}_{kind}" for kind in CORRUPTIONS for name in CLEAN)]
CHOSEN, DRAWS = 6, 2
STEPS = 40
DERTS = MetaSampling(sampler="derts", max_tasks=CHOSEN, rounds=2)

Rows = dict[str, list[Any]]


def rows_of(task: str, split: str) -> list[dict[str, Any]]:
    with gzip.open(DEMO / f"{task}.{split}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def suite_in(folder: Path) -> dict[str, Rows]:
    """Write the suite: the target, 8 sources, and a shuffled and a flipped copy of each; return held-out rows."""
    shutil.copytree(DEMO, folder)
    manifest = json.loads((DEMO / "manifest.json").read_text())
    tasks = {task["name"]: task for task in manifest["tasks"] if task["name"] in (TARGET, *CLEAN)}
    held_out = {TARGET: columns(rows_of(TARGET, "test"))}
    for name, task in tasks.items():
        rows = rows_of(name, "train")
        if name != TARGET:
            held_out[name] = columns(rows[TRAIN_ROWS:])
        kept = rows[: TARGET_ROWS if name == TARGET else TRAIN_ROWS]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, kept)))
        task["splits"]["train"] = {"file": f"{name}.jsonl"}
    copies = [
        {"name": f"{name}_{kind}", "derived_from": name, **corruption}
        for kind, corruption in CORRUPTIONS.items()
        for name in CLEAN
    ]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "tasks": [*tasks.values(), *copies]}))
    return held_out


def columns(rows: list[dict[str, Any]]) -> Rows:
    return {name: [row.get(name) for row in rows] for name in ("text", "text_pair", "label")}


def accuracy(theta: StepOutput, held_out: dict[str, Rows]) -> dict[str, float]:
    """Return the share of right answers of the meta-trained model, task by task."""
    model, found = open_model(fetch(theta)), {}
    for task, rows in held_out.items():
        right = [answers.right() for _, answers in model.read(model.encode(rows, task), "float32")]
        found[task] = float(torch.cat(right).float().mean())
    return found


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_beats_a_random_choice_of_as_many_sources(tmp_path: Path, seed: int) -> None:
    """In as many steps, accuracy on the target is higher; the mean over it and the clean sources gains less.

    Random sources are drawn by size. Much of the gain comes from the target's share, which is larger here.
    """
    held_out, root = suite_in(tmp_path / "suite"), str(tmp_path / "root")
    data = prepare_data(DataPreparationConfig(suite=str(tmp_path / "suite"), target=TARGET), root)
    recipe = TrainingRecipe(steps=STEPS, precision="float32", processes=1, seed=seed)

    def trained(sources: list[str], sampling: MetaSampling | None = None) -> StepOutput:
        with track_step("meta_training", root, {}) as tracker:
            return produce_trained_model(
                "meta_training", data, [TARGET, *sources], MODEL, recipe, root, tracker, sampling=sampling
            )

    generator = np.random.default_rng(seed)
    draws = [generator.choice(SOURCES, CHOSEN, replace=False).tolist() for _ in range(DRAWS)]
    theta = trained(SOURCES, DERTS)
    found = accuracy(theta, held_out)
    by_chance = [accuracy(trained(draw), held_out) for draw in draws]
    own, *others = (each[TARGET] for each in (found, *by_chance))
    assert own >= np.mean(others) + 0.05
    own, *others = (float(np.mean(list(each.values()))) for each in (found, *by_chance))
    assert own > np.mean(others)
