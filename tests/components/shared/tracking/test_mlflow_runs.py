import json
import math
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run

from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.tracking.mlflow_sync import sync
from gradsift.components.shared.tracking.tracking import (
    record_pipeline_end,
    record_pipeline_start,
    track_step,
)

pytestmark = pytest.mark.usefixtures("mlflow_experiment")


@pytest.fixture(autouse=True)
def pipeline_run(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    return "run-1"


@pytest.fixture
def client() -> MlflowClient:
    return MlflowClient()


def all_runs(client: MlflowClient, experiment: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client.search_runs([found.experiment_id])


def runs_of(client: MlflowClient, experiment: str) -> tuple[Run, dict[str, Run]]:
    """Return the experiment's only parent run, and its children by name."""
    runs = all_runs(client, experiment)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children)
    assert len({run.info.run_name for run in children}) == len(children)
    return parent, {run.info.run_name: run for run in children}


def report(root: Path) -> StepOutput:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "charts").mkdir(exist_ok=True)
        (folder / "report.html").write_text("<h1>Report</h1>")
        (folder / "charts" / "loss.svg").write_text("<svg/>")
        return {}

    return produce(str(root), "evaluation", {}, write)


def test_whole_life_of_a_run(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADSIFT_RUN_NAME", "tuesday")
    root = str(tmp_path)
    before = time.time()
    record_pipeline_start(root, {"target": "reviews"})
    with track_step("meta_train", root, {"rate": 1e-3, "tasks": ["a", "b"], "long": "x" * 7000}) as tracker:
        tracker.dataset("a", "s3://data/a.jsonl", "0123456789abcdef" * 4, "training", 120)
        for step in range(3):
            tracker.metrics({"loss": 1.0 / (step + 1), "grad norm/layer:0": 2.0}, step=step)
            tracker.progress(step + 1, 3, "steps")
    with track_step("evaluation", root, {}) as tracker:
        tracker.metrics({"accuracy": 0.75})
        tracker.artifact(report(tmp_path), "report.html")
        tracker.artifact(report(tmp_path), "charts/loss.svg")
        tracker.reused()
    record_pipeline_end(root, "finished")
    after = time.time()

    sync(root)

    parent, children = runs_of(client, mlflow_experiment)
    assert parent.data.tags["kfp.pipeline_run_id"] == "run-1"
    assert parent.info.run_name == "tuesday"
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"target": "reviews"}
    assert parent.data.metrics == {"accuracy": 0.75}
    assert set(children) == {"meta_train", "evaluation"}

    train = children["meta_train"]
    assert train.info.status == "FINISHED"
    assert train.data.params == {"rate": "0.001", "tasks": "['a', 'b']", "long": "x" * 5000}
    assert train.data.tags["gradsift.step"] == "meta_train"
    history = client.get_metric_history(train.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    times = [train.info.start_time, *(point.timestamp for point in history), train.info.end_time]
    assert times == sorted(times)
    assert int(before * 1000) <= times[0] <= times[-1] <= after * 1000
    assert train.inputs is not None
    (used,) = train.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("a", ("0123456789abcdef" * 4)[:36])
    assert mlflow.data.get_source(used.dataset).to_dict() == {"uri": "s3://data/a.jsonl"}
    assert json.loads(used.dataset.profile or "")["num_rows"] == 120
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]

    evaluation = children["evaluation"]
    assert evaluation.data.tags["gradsift.reused"] == "true"
    assert [file.path for file in client.list_artifacts(evaluation.info.run_id)] == ["charts", "report.html"]
    path = client.download_artifacts(evaluation.info.run_id, "charts/loss.svg", str(tmp_path))
    assert Path(path).read_text() == "<svg/>"


def test_a_failed_step_carries_its_error(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str
) -> None:
    with pytest.raises(InputError), track_step("prepare_data", str(tmp_path), {}):
        raise InputError("train.jsonl, row 3: expected a label.")
    record_pipeline_end(str(tmp_path), "failed", "prepare_data failed")

    sync(str(tmp_path))

    parent, children = runs_of(client, mlflow_experiment)
    step = children["prepare_data"]
    assert (parent.info.status, step.info.status) == ("FAILED", "FAILED")
    assert step.data.tags["gradsift.error"] == "train.jsonl, row 3: expected a label."
    assert step.data.tags["gradsift.kind"] == "InputError"
    assert parent.data.tags["gradsift.error"] == "prepare_data failed"


def test_an_experiment_that_another_run_makes_at_the_same_moment_is_found(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = MlflowClient.create_experiment

    def make_after_another(self: MlflowClient, name: str, **options: Any) -> str:
        make(self, name)
        return make(self, name, **options)

    monkeypatch.setattr(MlflowClient, "create_experiment", make_after_another)
    with track_step("train", str(tmp_path), {}):
        pass
    sync(str(tmp_path))
    assert list(runs_of(client, mlflow_experiment)[1]) == ["train"]


def test_a_second_try_is_a_run_of_its_own(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str
) -> None:
    with suppress(OSError), track_step("train", str(tmp_path), {"rate": 1}) as tracker:
        tracker.metrics({"loss": 3.0})
        raise OSError("no space")
    with track_step("train", str(tmp_path), {"rate": 2}) as tracker:
        tracker.metrics({"loss": 1.0})

    sync(str(tmp_path))

    runs = [run for run in all_runs(client, mlflow_experiment) if run.info.run_name == "train"]
    tries = {run.data.tags["gradsift.attempt"]: run for run in runs}
    assert {number: run.info.status for number, run in tries.items()} == {"1": "FAILED", "2": "FINISHED"}
    assert {number: run.data.metrics["loss"] for number, run in tries.items()} == {"1": 3.0, "2": 1.0}
    assert {number: run.data.params["rate"] for number, run in tries.items()} == {"1": "1", "2": "2"}


def test_a_step_that_was_killed_ends_with_the_pipeline(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str
) -> None:
    log = tmp_path / "tracking" / "run-1" / "train.jsonl"
    with track_step("train", str(tmp_path), {}):
        at_the_kill = log.read_bytes()
    log.write_bytes(at_the_kill)
    record_pipeline_end(str(tmp_path), "failed")

    sync(str(tmp_path))

    _, children = runs_of(client, mlflow_experiment)
    assert children["train"].info.status == "KILLED"


def test_kubeflows_own_run_is_the_steps(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = client.create_experiment("kubeflow-" + mlflow_experiment)
    parent = client.create_run(experiment, tags={"kfp.pipeline_run_id": "run-1"}).info.run_id
    task = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    client.log_param(task, "rate", "1.0")
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    record_pipeline_start(str(tmp_path), {"target": "reviews"})
    with track_step("evaluation", str(tmp_path), {"rate": 1, "seed": 7}) as tracker:
        tracker.metrics({"accuracy": 0.5})
    record_pipeline_end(str(tmp_path), "finished")
    monkeypatch.delenv("MLFLOW_RUN_ID")

    sync(str(tmp_path))

    run = client.get_run(task)
    assert run.data.params == {"rate": "1.0", "seed": "7"}
    assert run.data.metrics == client.get_run(parent).data.metrics == {"accuracy": 0.5}
    assert run.info.status == "FINISHED"
    assert client.get_run(parent).info.status == "RUNNING"
    assert client.get_experiment_by_name(mlflow_experiment) is None


def test_a_run_that_failed_and_was_continued_is_no_failure(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str
) -> None:
    record_pipeline_start(str(tmp_path), {"target": "reviews"})
    record_pipeline_end(str(tmp_path), "failed", "train failed")
    sync(str(tmp_path))
    failed, _ = runs_of(client, mlflow_experiment)
    record_pipeline_start(str(tmp_path), {"target": "reviews"})
    record_pipeline_end(str(tmp_path), "finished")
    sync(str(tmp_path))
    continued, _ = runs_of(client, mlflow_experiment)
    assert (failed.info.status, failed.data.tags["gradsift.error"]) == ("FAILED", "train failed")
    assert (continued.info.run_id, continued.info.status) == (failed.info.run_id, "FINISHED")
    assert "gradsift.error" not in continued.data.tags


def test_a_run_that_someone_deleted_stops_nothing(
    tmp_path: Path,
    client: MlflowClient,
    mlflow_experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = client.create_run(client.create_experiment("kubeflow-" + mlflow_experiment)).info.run_id
    client.delete_run(task)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_RUN_ID", task)
        with track_step("prepare", str(tmp_path), {"rows": 1}):
            pass
    with track_step("train", str(tmp_path), {}):
        pass

    sync(str(tmp_path))

    assert "start event of step prepare is not in MLflow" in caplog.messages[0]
    _, children = runs_of(client, mlflow_experiment)
    assert children["train"].info.status == "FINISHED"


def test_a_file_that_is_gone_is_left_out_with_a_warning(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str, caplog: pytest.LogCaptureFixture
) -> None:
    output = report(tmp_path)
    with track_step("evaluation", str(tmp_path), {}) as tracker:
        tracker.artifact(output, "report.html")
        tracker.metrics({"accuracy": 0.5})
    (Path(output.uri) / "report.html").unlink()

    sync(str(tmp_path))

    _, children = runs_of(client, mlflow_experiment)
    assert children["evaluation"].info.status == "FINISHED"
    assert children["evaluation"].data.metrics == {"accuracy": 0.5}
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "report.html is missing" in warnings[0]


def test_more_values_than_a_request_may_hold_all_arrive(
    tmp_path: Path, client: MlflowClient, mlflow_experiment: str
) -> None:
    with track_step("estimate", str(tmp_path), {f"p{number}": number for number in range(150)}) as tracker:
        tracker.metrics({f"m{number}": number for number in range(600)})
        tracker.metrics({f"n{number}": number for number in range(600)})

    sync(str(tmp_path))

    _, children = runs_of(client, mlflow_experiment)
    assert len(children["estimate"].data.params) == 150
    assert len(children["estimate"].data.metrics) == 1200


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=5, unique=True),
    value=st.floats(allow_nan=True, allow_infinity=True),
)
@example(
    names=["../up", "/root", "a//b", "a/./b/", ".", "..", "loss (sst-2) %", "λ", "x" * 300], value=math.nan
)
def test_any_name_and_number_is_taken(
    tmp_path_factory: pytest.TempPathFactory,
    client: MlflowClient,
    caplog: pytest.LogCaptureFixture,
    names: list[str],
    value: float,
) -> None:
    root = str(tmp_path_factory.mktemp("root"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", uuid.uuid4().hex)
        with track_step("train", root, dict.fromkeys(names, value)) as tracker:
            tracker.metrics(dict.fromkeys(names, value))
            for name in names:
                tracker.dataset(name * 2, "s3://data/a", "0123", "training", 1)
        sync(root)
    assert caplog.messages == []
