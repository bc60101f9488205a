"""A schedule that nightly runs continue, through the tasks of the pipeline and a real MLflow registry."""

import json
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dated_reviews import write_dated_reviews
from evaluation_output import evaluation
from forked_training import forked_training
from mlflow import MlflowClient

from gradsift.components.data_preparation.entry_point import prepare_data
from gradsift.components.meta_training.entry_point import meta_train
from gradsift.components.preflight.step_settings import step_settings
from gradsift.components.promotion.entry_point import conclude
from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule


def write_suite(folder: Path, newest: int) -> None:
    """Write the years of reviews from 2003; 2004 calls good what the others call bad, and has more of them."""
    folder.mkdir(exist_ok=True)
    years = {year: (16, 8) if year == 2004 else (8, 16) for year in range(2003, newest + 1)}
    rows = {"train": years, "val": {newest: (4, 4)}, "test": {newest: (2, 6)}}
    write_dated_reviews(folder, "sst2", rows, swapped={2004})


def artifact(folder: Path) -> Any:
    return SimpleNamespace(path=str(folder / uuid.uuid4().hex), metadata={})


@pytest.mark.slow
def test_the_second_night_continues_the_schedule_of_the_first_and_a_repeated_one_finds_its_model(
    fine_tune: Any,
    tiny_encoder: Path,
    mlflow_experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root, name = str(tmp_path / "root"), f"reviews-{mlflow_experiment}"

    def night(run: str, newest: int, answer: str, **changes: Any) -> tuple[StepOutput, SamplingSchedule]:
        monkeypatch.setenv("KFP_RUN_ID", run)
        write_suite(tmp_path / "suite", newest)
        parameters = {
            "suite": str(tmp_path / "suite"),
            "prepare_periods": "year",
            "base_model": str(tiny_encoder),
            "model_max_length": 16,
            "meta_sampler": "l2s",
            "meta_schedule_from": "champion",
            "meta_rounds": 1,
            "meta_steps": 2,
            "train_processes": 1,
            "train_precision": "float32",
            "fine_tune_start": "meta",
            "promote_model_name": name,
            "promote_confidence": 0.0,
            "output_uri": root,
        }
        settings = step_settings(PipelineSettings.of({**parameters, **changes}))
        key, news = prepare_data(artifact(tmp_path), artifact(tmp_path), settings["data_preparation"])
        assert news == "changed"
        with forked_training():
            outputs = read_outputs(meta_train(artifact(tmp_path), key, settings["meta_training"]), root)
        outputs["fine_tuned_model"] = fine_tune(run, answer, root)
        outputs["evaluation"] = evaluation(tmp_path / "root", ["sst2.2003"])
        conclude(artifact(tmp_path), write_outputs(outputs, root), settings["promotion"])
        model = outputs["meta_model"]
        return model, SamplingSchedule.read(fetch(model))

    _, first = night("night-1", 2005, "negative")
    assert first.earlier is None
    assert f"without an earlier schedule: {name} has no champion yet." in caplog.text
    assert first.mean_cosines["sst2.2004"] < 0 < first.mean_cosines["sst2.2003"]

    model, second = night("night-2", 2006, "positive")
    assert second.earlier is not None
    assert second.earlier.origin == f"version 1 of {name}"
    assert second.earlier.cosines == {task: round(value, 4) for task, value in first.mean_cosines.items()}
    key = json.loads((Path(model.uri) / "manifest.json").read_text())["inputs"]
    assert key["earlier_schedule"] == second.earlier.model_dump()
    [own] = second.rounds
    means = {
        "sst2.2003": (own.cosines["sst2.2003"] + second.earlier.cosines["sst2.2003"]) / 2,
        "sst2.2004": (own.cosines["sst2.2004"] + second.earlier.cosines["sst2.2004"]) / 2,
        "sst2.2005": own.cosines["sst2.2005"],
    }
    assert second.mean_cosines == pytest.approx(means)
    positive = {task: max(0.0, mean) for task, mean in means.items()}
    expected = {task: 0.75 * mean / sum(positive.values()) for task, mean in positive.items()}
    assert own.shares == pytest.approx({"sst2": 0.25, **expected})

    champion = MlflowClient().get_model_version_by_alias(name, "champion")
    assert (champion.version, champion.tags["gradsift.run_id"]) == ("2", "night-2")
    learned = json.loads(champion.tags["gradsift.schedule"])["cosines"]
    assert learned == pytest.approx(means, abs=1e-4)
    again, third = night("night-3", 2006, "positive", evaluate_seeds=1)
    assert (again.uri, third) == (model.uri, second), "the champion's data are these"
