import logging
import math
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest

from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking import tracking
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import (
    record_pipeline_end,
    record_pipeline_start,
    track_step,
)

Event = dict[str, Any]


@pytest.fixture(autouse=True)
def pipeline_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    for variable in ("GRADSIFT_RUN_NAME", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)


def events_of(root: Path | str, step: str) -> list[Event]:
    """Return the events of a step of run-1, without their times."""
    content = open_storage(str(root)).read(f"tracking/run-1/{step}.jsonl")
    return [
        {name: value for name, value in event.items() if name != "time"} for event in read_events(content)
    ]


def test_events_are_in_the_log_as_they_happen(tmp_path: Path) -> None:
    before = time.time()
    with track_step("train", str(tmp_path), {"rate": 0.1, "folder": Path("/data")}) as tracker:
        assert events_of(tmp_path, "train") == [
            {"event": "start", "step": "train", "params": {"rate": 0.1, "folder": "/data"}}
        ]
        tracker.metrics({"loss": 0.5}, step=3)
        tracker.metrics({"accuracy": 1})
        tracker.progress(1, 2, "steps")
        tracker.dataset("a", "s3://data/a.jsonl", "f00d", "training", 7)
        tracker.artifact(StepOutput("s3://bucket/x", "beef", {}), "report.html")
        tracker.artifact(StepOutput("s3://bucket/x", "beef", {}), "charts/loss.svg")
        tracker.model(StepOutput("s3://bucket/y", "cafe", {}))
        assert events_of(tmp_path, "train")[1:] == [
            {"event": "metric", "values": {"loss": 0.5}, "step": 3},
            {"event": "metric", "values": {"accuracy": 1.0}},
            {"event": "progress", "done": 1, "total": 2, "unit": "steps"},
            {
                "event": "dataset",
                "name": "a",
                "uri": "s3://data/a.jsonl",
                "digest": "f00d",
                "context": "training",
                "rows": 7,
            },
            {
                "event": "artifact",
                "uri": "s3://bucket/x",
                "digest": "beef",
                "name": "report.html",
                "artifact_path": "",
            },
            {
                "event": "artifact",
                "uri": "s3://bucket/x",
                "digest": "beef",
                "name": "charts/loss.svg",
                "artifact_path": "charts",
            },
            {"event": "model", "uri": "s3://bucket/y", "digest": "cafe"},
        ]
    end = events_of(tmp_path, "train")[-1]
    assert 0 <= end.pop("seconds") <= time.time() - before + 0.001  # it is rounded
    assert end == {"event": "end", "status": "finished"}
    log = (tmp_path / "tracking/run-1/train.jsonl").read_bytes()
    times = [before, *(event["time"] for event in read_events(log)), time.time()]
    assert times == sorted(times)


def test_a_local_output_is_recorded_with_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with track_step("train", "run", {}) as tracker:
        tracker.model(StepOutput("run/x", "beef", {}))
    assert events_of("run", "train")[1]["uri"] == str(tmp_path / "run" / "x")


def test_a_reused_step_says_so(tmp_path: Path) -> None:
    with track_step("train", str(tmp_path), {}) as tracker:
        tracker.reused()
    assert events_of(tmp_path, "train")[-1]["status"] == "reused"


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        (
            InputError("row 3: no label."),
            {"error": "row 3: no label.", "kind": "InputError", "input_error": True},
        ),
        (
            ValueError("first line\nsecond"),
            {"error": "first line", "kind": "ValueError", "input_error": False},
        ),
        (
            KeyboardInterrupt(),
            {"error": "KeyboardInterrupt", "kind": "KeyboardInterrupt", "input_error": False},
        ),
    ],
)
def test_an_error_is_recorded_and_passes_through(
    tmp_path: Path, error: BaseException, recorded: Event
) -> None:
    with pytest.raises(type(error)) as caught, track_step("train", str(tmp_path), {}):
        raise error
    assert caught.value is error
    end = events_of(tmp_path, "train")[-1]
    del end["seconds"]
    assert end == {"event": "end", "status": "failed", **recorded}


def test_progress_is_thinned_out_and_its_last_state_kept(tmp_path: Path) -> None:
    began = time.monotonic()
    with track_step("train", str(tmp_path), {}) as tracker:
        for done in range(5000):
            tracker.progress(done, 10_000, "rows")
        tracker.progress(1, 10, "shards")
        tracker.progress(2, 10, "shards")
    allowed = 4 + (time.monotonic() - began) / tracking.PROGRESS_SECONDS
    progress = [event for event in events_of(tmp_path, "train") if event["event"] == "progress"]
    states = [(event["done"], event["unit"]) for event in progress]
    assert states[0] == (0, "rows")
    assert (4999, "rows") in states
    assert states[-1] == (2, "shards")
    assert len(states) <= allowed


def test_the_last_of_all_is_in_the_log_at_once(tmp_path: Path) -> None:
    with track_step("train", str(tmp_path), {}) as tracker:
        for done in range(11):
            tracker.progress(done, 10, "rows")
        assert events_of(tmp_path, "train")[-1]["done"] == 10


def test_a_loss_that_is_no_number_is_recorded(tmp_path: Path) -> None:
    with track_step("train", str(tmp_path), {}) as tracker:
        tracker.metrics({"loss": math.nan, "norm": math.inf})
    values = events_of(tmp_path, "train")[1]["values"]
    assert math.isnan(values["loss"])
    assert values["norm"] == math.inf


def test_a_second_try_goes_on_in_the_same_log_after_a_line_cut_short(tmp_path: Path) -> None:
    with track_step("train", str(tmp_path), {}):
        pass
    with (tmp_path / "tracking/run-1/train.jsonl").open("a") as file:
        file.write('{"time": 1.0, "event": "met')
    with track_step("train", str(tmp_path), {}):
        pass
    assert [event["event"] for event in events_of(tmp_path, "train")] == ["start", "end", "start", "end"]


def test_run_and_names_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KFP_RUN_ID")
    monkeypatch.setenv("GRADSIFT_RUN_NAME", "tuesday")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123")
    with track_step("train", str(tmp_path), {}):
        pass
    start, _ = read_events((tmp_path / "tracking/local/train.jsonl").read_bytes())
    assert (start["run_name"], start["mlflow_run_id"]) == ("tuesday", "0123")


@pytest.mark.parametrize("run", ["../other", "a/b", "..", "a b", "a'b", ".hidden"])
def test_a_run_id_that_cannot_be_a_file_name_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    monkeypatch.setenv("KFP_RUN_ID", run)
    with pytest.raises(InputError, match="KFP_RUN_ID"), track_step("train", str(tmp_path), {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_root_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="not a directory"), track_step("t", str(tmp_path / "file"), {}):
        pass


def test_a_log_that_is_lost_on_the_way_fails_no_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with track_step("train", str(tmp_path), {}) as tracker:
        (tmp_path / "tracking/run-1/train.jsonl").unlink()
        (tmp_path / "tracking/run-1").rmdir()
        (tmp_path / "tracking/run-1").touch()
        tracker.metrics({"loss": 1.0})
    assert "metric event of the step was not recorded" in caplog.messages[0]


def test_the_pipelines_own_log(tmp_path: Path) -> None:
    record_pipeline_start(str(tmp_path), {"target": "reviews"})
    record_pipeline_end(str(tmp_path), "failed", "train failed")
    assert events_of(tmp_path, "pipeline") == [
        {"event": "start", "step": "pipeline", "params": {"target": "reviews"}},
        {"event": "end", "step": "pipeline", "status": "failed", "error": "train failed"},
    ]


def test_on_s3_the_log_is_uploaded_when_the_step_ends_however_it_ends(s3_root: str) -> None:
    with suppress(InputError), track_step("train", s3_root, {}):
        assert open_storage(s3_root).keys() == []
        raise InputError("broken")
    with track_step("train", s3_root, {}) as tracker:
        tracker.metrics({"loss": 1.0})
    assert [event["event"] for event in events_of(s3_root, "train")] == [
        *("start", "end"),
        *("start", "metric", "end"),
    ]


def test_on_s3_the_log_of_a_long_step_is_uploaded_meanwhile(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SEND_EVERY_SECONDS", 0.0)
    with track_step("train", s3_root, {}) as tracker:
        tracker.metrics({"loss": 1.0})
        assert [event["event"] for event in events_of(s3_root, "train")] == ["start", "metric"]


def test_a_log_that_cannot_be_uploaded_is_a_warning_and_goes_with_the_next_try(
    s3_root: str, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = uuid.uuid4().hex
    root = f"s3://{bucket}/runs"
    with track_step("train", root, {}):
        pass
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "gradsift mlflow-sync" in caplog.messages[0]
    boto3.client("s3").create_bucket(Bucket=bucket)
    with track_step("train", root, {}):
        pass
    assert [event["event"] for event in events_of(root, "train")] == ["start", "end", "start", "end"]


def test_tracking_does_not_import_mlflow(tmp_path: Path) -> None:
    program = (
        "import sys; from gradsift.components.shared.tracking.tracking import track_step\n"
        f"with track_step('train', {str(tmp_path)!r}, {{}}) as tracker: tracker.metrics({{'loss': 1.0}})\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'mlflow']"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
