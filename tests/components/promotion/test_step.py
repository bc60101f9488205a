"""Promotion against a real MLflow server: who becomes champion, and what a killed step leaves to its next try."""

import json
import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from doubles.faulty_proxy import faulty_proxy
from mlflow import MlflowClient

from gradsift.components.promotion.step import promote
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError, TrackingError
from gradsift.components.shared.model_registry.freshness import fingerprint, is_changed
from gradsift.components.shared.model_registry.registry import ModelRegistry
from gradsift.components.shared.models import threads
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.process import outages
from gradsift.components.shared.tracking.event_log import EventLog
from gradsift.components.shared.tracking.tracking import StepTracker

SETTINGS = "settings"


@pytest.fixture
def name(mlflow_experiment: str) -> str:
    return f"model-{uuid.uuid4().hex}"


@pytest.fixture
def tracker(tmp_path: Path) -> StepTracker:
    return StepTracker(EventLog(str(tmp_path / "root"), "promotion"))


@pytest.fixture
def better_and_worse(prepared_data: StepOutput) -> tuple[str, str, float]:
    """Return the label that most test rows have, the other one, and the first one's share."""
    data = PreparedData(fetch(prepared_data))
    share = float(np.mean(data.split(data.target, "test")["label"][:]))
    negative, positive = data.task(data.target).labels
    return (positive, negative, share) if share > 0.5 else (negative, positive, 1 - share)


def aliases(name: str) -> dict[str, str]:
    return {alias: str(number) for alias, number in MlflowClient().get_registered_model(name).aliases.items()}


def test_the_first_model_is_champion_and_can_be_loaded_by_its_alias(
    prepared_data: StepOutput, fine_tune: Any, name: str, tracker: StepTracker, tmp_path: Path
) -> None:
    model = fine_tune("run-1", "positive")
    made = promote(
        PromotionConfig(model_name=name), prepared_data, model, SETTINGS, str(tmp_path / "root"), tracker
    )
    assert made.promoted
    assert made.words == f"Version 1 of {name} is champion: it is the first."
    assert aliases(name) == {"candidate": "1", "champion": "1"}
    tags = MlflowClient().get_model_version(name, "1").tags
    assert tags["gradsift.run_id"] == "run-1"
    assert tags["gradsift.model_digest"] == model.digest
    assert tags["gradsift.fingerprint"] == fingerprint(prepared_data, SETTINGS)
    answers = mlflow.pyfunc.load_model(f"models:/{name}@champion").predict(["a text"])
    assert answers["label"].tolist() == ["positive"]


@pytest.mark.parametrize(
    ("min_gain", "confidence", "champion_answers", "promoted", "reason"),
    [
        (0.0, 0.9, "worse", False, "its gain may be chance"),
        (0.0, 0.0, "worse", True, "it is better"),
        (0.5, 0.0, "worse", False, "it is better by less than the 50.00 points asked for"),
        (0.0, 0.0, "equal", False, "it is not better"),
    ],
)
def test_a_candidate_takes_the_champions_place_where_it_gains_enough_on_the_same_rows(
    min_gain: float,
    confidence: float,
    champion_answers: str,
    promoted: bool,
    reason: str,
    prepared_data: StepOutput,
    better_and_worse: tuple[str, str, float],
    fine_tune: Any,
    name: str,
    tracker: StepTracker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    better, worse, share = better_and_worse
    champion = {"worse": worse, "equal": better}[champion_answers]
    root = str(tmp_path / "root")
    config = PromotionConfig(model_name=name, min_gain=min_gain, confidence=confidence)
    promote(config, prepared_data, fine_tune("run-1", champion), SETTINGS, root, tracker)
    with caplog.at_level(logging.INFO, "gradsift"):
        made = promote(config, prepared_data, fine_tune("run-2", better), SETTINGS, root, tracker)
    assert made.promoted is promoted
    assert aliases(name) == {"candidate": "2", "champion": "2" if promoted else "1"}
    shares = {better: f"{share:.2%}", worse: f"{1 - share:.2%}"}
    place = "is champion" if promoted else "stays candidate"
    assert made.words.startswith(
        f"Version 2 of {name} {place}, as {reason}: accuracy {shares[better]} against {shares[champion]} of "
        "version 1 on the same 1000 test rows, a difference of +"
    )
    assert made.words in caplog.messages
    tags = MlflowClient().get_model_version(name, "2").tags
    assert tags["gradsift.decision"] == made.words
    assert json.loads(tags["gradsift.score"]) == pytest.approx(share)
    assert (json.loads(tags["gradsift.gain_interval"]) is None) is (confidence == 0)


def test_models_answer_with_the_given_cores(
    prepared_data: StepOutput,
    fine_tune: Any,
    name: str,
    tracker: StepTracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "cores_per_process", lambda processes: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    root, config = str(tmp_path / "root"), PromotionConfig(model_name=name)
    promote(config, prepared_data, fine_tune("run-1", "positive"), SETTINGS, root, tracker)
    promote(config, prepared_data, fine_tune("run-2", "negative"), SETTINGS, root, tracker)
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 3


def test_a_language_model_takes_the_place_of_one_that_writes_worse(
    counting_data: StepOutput, teach: Any, name: str, tracker: StepTracker, tmp_path: Path
) -> None:
    root, config = str(tmp_path / "root"), PromotionConfig(model_name=name)
    promote(config, counting_data, teach("run-1", steps=0), SETTINGS, root, tracker)
    made = promote(config, counting_data, teach("run-2", steps=60), SETTINGS, root, tracker)
    assert made.promoted
    assert "as it is clearly better: ROUGE-L 100.00% against 0.00% of version 1" in made.words
    assert aliases(name) == {"candidate": "2", "champion": "2"}


def test_a_model_that_is_champion_already_keeps_what_was_recorded(
    counting_data: StepOutput, teach: Any, name: str, tracker: StepTracker, tmp_path: Path
) -> None:
    """So does the next try of a step that was killed after it gave the alias."""
    root, config = str(tmp_path / "root"), PromotionConfig(model_name=name)
    promote(config, counting_data, teach("run-1", steps=0), SETTINGS, root, tracker)
    model = teach("run-2", steps=60)
    first = promote(config, counting_data, model, SETTINGS, root, tracker)
    recorded = MlflowClient().get_model_version(name, "2").tags
    again = promote(config, counting_data, model, SETTINGS, root, tracker)
    assert again.promoted
    assert again.words == f"Version 2 of {name} is champion already. When it was judged: {first.words}"
    assert MlflowClient().get_model_version(name, "2").tags == recorded


def test_a_champion_of_other_labels_cannot_be_compared(
    prepared_data: StepOutput, fine_tune: Any, name: str, tracker: StepTracker, tmp_path: Path
) -> None:
    root, config = str(tmp_path / "root"), PromotionConfig(model_name=name)
    other = fine_tune("run-1", "good", labels=["bad", "good"])
    promote(config, prepared_data, other, SETTINGS, root, tracker)
    made = promote(config, prepared_data, fine_tune("run-2", "positive"), SETTINGS, root, tracker)
    assert "does not know the target 'sst2' with the labels of the test rows" in made.words
    assert aliases(name) == {"candidate": "2", "champion": "1"}


def test_a_champion_of_another_target_cannot_be_compared(
    prepared_data: StepOutput,
    counting_data: StepOutput,
    fine_tune: Any,
    teach: Any,
    name: str,
    tracker: StepTracker,
    tmp_path: Path,
) -> None:
    """The target is answered in free text: both models name no labels for it."""
    root, config = str(tmp_path / "root"), PromotionConfig(model_name=name)
    promote(config, prepared_data, fine_tune("run-1", "positive"), SETTINGS, root, tracker)
    made = promote(config, counting_data, teach("run-2", steps=0), SETTINGS, root, tracker)
    assert "does not know the target 'next'" in made.words
    assert aliases(name) == {"candidate": "2", "champion": "1"}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "head.json").write_text("{"), "Expecting property name"),
        (shutil.rmtree, "has no files of a model of gradsift's"),
    ],
    ids=["one file", "all files"],
)
def test_a_champion_that_cannot_be_read_keeps_its_place_and_is_named(
    damage: Any,
    reason: str,
    prepared_data: StepOutput,
    better_and_worse: tuple[str, str, float],
    fine_tune: Any,
    name: str,
    tracker: StepTracker,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    better, worse, _ = better_and_worse
    root, config = str(tmp_path / "root"), PromotionConfig(model_name=name, confidence=0)
    promote(config, prepared_data, fine_tune("run-1", worse), "before", root, tracker)
    model_id = MlflowClient().get_model_version(name, "1").source.removeprefix("models:/")
    [head] = tmp_path_factory.getbasetemp().glob(f"mlflow0/artifacts/*/models/{model_id}/**/head.json")
    damage(head.parent)
    model = fine_tune("run-2", better)
    with pytest.raises(
        InputError, match=f"Version 1 of the registered model '{name}' .*{reason}.*give the alias"
    ):
        promote(config, prepared_data, model, SETTINGS, root, tracker)
    assert aliases(name) == {"candidate": "2", "champion": "1"}
    assert is_changed(config, prepared_data, SETTINGS, root, tracker), "the candidate was not judged"
    MlflowClient().delete_registered_model_alias(name, "champion")
    assert promote(config, prepared_data, model, SETTINGS, root, tracker).promoted


@pytest.mark.slow
@pytest.mark.parametrize("call", [0, 2, 3])
def test_killed_after_any_change_and_tried_again_it_ends_as_undisturbed(
    call: int,
    prepared_data: StepOutput,
    better_and_worse: tuple[str, str, float],
    fine_tune: Any,
    name: str,
    tracker: StepTracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    better, worse, _ = better_and_worse
    root, config = str(tmp_path / "root"), PromotionConfig(model_name=name, confidence=0)
    promote(config, prepared_data, fine_tune("run-1", worse), "before", root, tracker)
    model = fine_tune("run-2", better)
    changes: list[str] = []
    with monkeypatch.context() as patch:
        for method in ("set_alias", "set_tags"):
            real = getattr(ModelRegistry, method)

            def interrupted(self: Any, *given: Any, real: Any = real) -> None:
                real(self, *given)
                changes.append(real.__name__)
                if len(changes) == call + 1:
                    raise KeyboardInterrupt

            patch.setattr(ModelRegistry, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            promote(config, prepared_data, model, SETTINGS, root, tracker)
    unjudged = call < 3
    assert is_changed(config, prepared_data, SETTINGS, root, tracker) is unjudged
    made = promote(config, prepared_data, model, SETTINGS, root, tracker)
    assert made.promoted
    assert aliases(name) == {"candidate": "2", "champion": "2"}
    assert not is_changed(config, prepared_data, SETTINGS, root, tracker)
    assert len(MlflowClient().search_model_versions(f"name = '{name}'")) == 2


def test_there_is_news_unless_a_judged_version_is_of_the_same_data_and_settings(
    prepared_data: StepOutput,
    better_and_worse: tuple[str, str, float],
    fine_tune: Any,
    name: str,
    tracker: StepTracker,
    tmp_path: Path,
) -> None:
    better, worse, _ = better_and_worse
    root, config = str(tmp_path / "root"), PromotionConfig(model_name=name)

    def changed(data: StepOutput, settings: str) -> bool:
        return is_changed(config, data, settings, root, tracker)

    assert changed(prepared_data, SETTINGS), "nothing is registered"
    promote(config, prepared_data, fine_tune("run-1", better), SETTINGS, root, tracker)
    assert not changed(prepared_data, SETTINGS)
    assert changed(prepared_data, "other settings")
    assert changed(StepOutput("uri", "other digest", {}), SETTINGS)
    promote(config, prepared_data, fine_tune("run-2", worse), "other settings", root, tracker)
    assert not changed(prepared_data, "other settings"), "the candidate was judged, and is not champion"
    assert not changed(prepared_data, SETTINGS), "the champion is the same"


def test_without_mlflow_there_is_news_and_a_warning(
    prepared_data: StepOutput,
    tracker: StepTracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert is_changed(
        PromotionConfig(model_name="model"), prepared_data, SETTINGS, str(tmp_path / "root"), tracker
    )
    assert "could not serve the registered model 'model'" in caplog.text
    assert "s3cret" not in caplog.text


def test_mlflow_is_waited_for_where_a_model_is_registered(
    prepared_data: StepOutput,
    fine_tune: Any,
    name: str,
    tracker: StepTracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(outages.VARIABLE, "60")
    monkeypatch.setattr(outages, "MAX_DELAY_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config, root = PromotionConfig(model_name=name), str(tmp_path / "root")
    model = fine_tune("run-1", "positive")
    with faulty_proxy(os.environ["MLFLOW_TRACKING_URI"]) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.endpoint)
        proxy.script = ["503", "reset before", None, "503"]
        assert promote(config, prepared_data, model, SETTINGS, root, tracker).promoted
        assert (proxy.counts["503"], proxy.counts["reset before"]) == (2, 1)
        proxy.script = ["401", "503"]
        with pytest.raises(TrackingError, match="401"):
            promote(config, prepared_data, model, SETTINGS, root, tracker)
        assert proxy.script == ["503"], "a refusal is not waited for"


def test_a_remote_run_root_without_a_server_has_no_registry(
    prepared_data: StepOutput, tracker: StepTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI is not set"):
        is_changed(PromotionConfig(model_name="model"), prepared_data, SETTINGS, "s3://bucket/root", tracker)
