"""The schedule over past periods on real text, where an old regime returns: labels mean what they once meant."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.meta_training.step import STEP, meta_train
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.suites import suite_folder
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.trained_model import produce_trained_model

DEMO = Path(suite_folder.__file__).parent / "demo_suite"
MODEL = ModelConfig(max_length=32)
FLIPPED = {2012, 2013, 2014, 2018}
"""Years in which positive reviews are labelled negative, and the reverse; 2018 is the newest."""
NEWEST, PAST_ROWS, NEW_ROWS, TEST_ROWS = 2018, 48, 32, 600
STEPS = 40


def reviews(task: str, *splits: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for split in splits:
        with gzip.open(DEMO / f"{task}.{split}.jsonl.gz", "rt") as file:
            found += [json.loads(line) for line in file]
    return found


def dated(rows: list[dict[str, Any]], year: int) -> list[dict[str, Any]]:
    return [
        {"id": row["id"], "text": row["text"], "label": row["label"] ^ (year in FLIPPED), "time": year}
        for row in rows
    ]


def suite_in(folder: Path) -> dict[str, list[Any]]:
    """Write a suite of dated movie reviews; return the newest year's test rows."""
    folder.mkdir()
    past = reviews("sst2", "train", "val")
    years = range(2011, NEWEST)
    train = [
        row
        for place, year in enumerate(years)
        for row in dated(past[place * PAST_ROWS : (place + 1) * PAST_ROWS], year)
    ]
    rest = past[len(years) * PAST_ROWS :]
    splits = {
        "train": train + dated(rest[:NEW_ROWS], NEWEST),
        "val": dated(rest[NEW_ROWS : NEW_ROWS + 100], NEWEST),
        "test": dated(reviews("sst2", "test")[:TEST_ROWS], NEWEST),
    }
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = {split: {"file": f"{split}.jsonl"} for split in splits}
    task = {"name": "reviews", "labels": {"0": "negative", "1": "positive"}, "splits": files}
    (folder / "manifest.json").write_text(json.dumps({"suite": "years", "tasks": [task]}))
    test = splits["test"]
    return {"text": [row["text"] for row in test], "text_pair": [None] * len(test)} | {
        "label": [row["label"] for row in test]
    }


def accuracy(theta: StepOutput, rows: dict[str, list[Any]]) -> float:
    model = open_model(fetch(theta))
    right = [answers.right() for _, answers in model.read(model.encode(rows, "reviews"), "float32")]
    return float(torch.cat(right).float().mean())


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_the_regime_that_returned(tmp_path: Path, seed: int) -> None:
    """By accuracy of the meta-trained model, where fine-tuning on the newest year would start.

    It is printed beside the accuracy of a model that is trained on the newest year alone, which is as good.
    """
    test, root = suite_in(tmp_path / "suite"), str(tmp_path / "root")
    config = DataPreparationConfig(suite=str(tmp_path / "suite"), target="reviews", periods="year")
    data = prepare_data(config, root)
    recipe = TrainingRecipe(steps=STEPS, precision="float32", processes=1, seed=seed)
    found = {}
    for sampler in ("size", "recency", "l2s"):
        sampling = None if sampler == "size" else MetaSampling(sampler=sampler)  # type: ignore[arg-type]
        with track_step(STEP, root, {}) as tracker:
            theta = meta_train(MODEL, recipe, data, root, tracker, sampling=sampling)
        found[sampler] = accuracy(theta, test)
    shares = SamplingSchedule.read(fetch(theta)).rounds[-1].shares
    with track_step(STEP, root, {}) as tracker:
        alone = produce_trained_model(STEP, data, ["reviews"], MODEL, recipe, root, tracker)
    found["newest year alone"] = accuracy(alone, test)
    past = {year: shares[f"reviews.{year}"] for year in range(2011, NEWEST)}
    of_old_regime = sum(share for year, share in past.items() if year in FLIPPED) / sum(past.values())
    print(f"seed {seed}: {found}, last shares {shares}, of the past from the old regime {of_old_regime:.2f}")
    assert found["l2s"] >= found["recency"] + 0.08
    assert found["l2s"] >= found["size"] - 0.01
