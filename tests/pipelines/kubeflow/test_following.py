"""`gradsift submit --wait`, by the real kfp client against a double of the API, and real run roots."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from doubles.fake_clock import Clock
from doubles.kfp_api_double import KfpApi
from doubles.kfp_api_server import serve

from gradsift.components.shared.errors import TrainingError
from gradsift.components.shared.tracking.tracking import track_step

CommandLine = Callable[..., tuple[int, str, str]]
Record = Callable[[Iterator[None]], None]
TOKEN = "eyJhbGciOiJSUzI1NiJ9.planted.secret"
UNREADABLE = "Progress is taken from Kubeflow's API and its counts may be incomplete: Cannot list s3://gradsift/runs/tracking"


def _state(state: str, **nodes: str) -> dict[str, Any]:
    """A run's fields in a state, with nodes of the workflow in theirs."""
    details = [{"display_name": name.replace("_", "-"), "state": node} for name, node in nodes.items()]
    return {"state": state, "run_details": {"task_details": details}}


@pytest.fixture
def record(kfp_api: KfpApi, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Return what lets a run's steps work while it is followed, up to their next `yield` between two looks."""

    def during_the_run(steps: Iterator[None]) -> None:
        def work() -> None:
            (run_id,) = kfp_api.runs
            monkeypatch.setenv("KFP_RUN_ID", run_id)
            next(steps, None)

        clock.on_sleep = work

    return during_the_run


def _lines(output: str) -> list[str]:
    """Return what was printed after the run's address, without the times of day."""
    return [line.split(maxsplit=1)[1] for line in output.splitlines()[1:]]


def _good_steps(root: str) -> Iterator[None]:
    with track_step("preflight", root, {"calibrate_runs": 0}):
        pass
    yield
    with track_step("data_preparation", root, {}) as tracker:
        yield
        tracker.metrics({"tasks": 4})
    with track_step("meta_training", root, {}) as tracker:
        tracker.progress(300, 1000, "steps")
        yield
    yield


@pytest.mark.parametrize("remote", [True, False], ids=["s3", "folder"])
def test_the_record_of_the_steps_counts_and_not_the_details_of_the_api(
    kfp_api: KfpApi,
    kfp_host: str,
    gradsift: CommandLine,
    record: Record,
    s3_root: str,
    tmp_path: Path,
    remote: bool,
) -> None:
    root = s3_root if remote else str(tmp_path / "run")
    frozen = {"prepare_data": "PENDING", "meta_train": "PENDING"}
    kfp_api.script = [_state("PENDING"), *[_state("RUNNING", **frozen)] * 4, _state("SUCCEEDED", **frozen)]
    record(_good_steps(root))
    code, output, errors = gradsift("submit", "--wait", "--set", f"output_uri={root}")
    assert (code, errors) == (0, "")
    lines = _lines(output)
    assert lines[0] == "pending, 0 done"
    assert [line.split()[0::2] for line in lines if line.startswith("finished")] == [
        ["finished", "preflight"],
        ["finished", "prepare", "4"],
        ["finished", "meta-train"],
    ]
    status = [line for line in lines if not line.startswith("finished")][1:]
    assert status[:2] == ["running, 1 done", "running, 1 done, now prepare data"]
    assert status[2].startswith("running, 2 done, now meta-train (300/1,000 steps, ")
    assert status[2].endswith(" left)")
    assert status[3:] == ["running, 3 done", "succeeded, 3 done"]


def test_progress_alone_is_printed_every_five_minutes(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, record: Record, clock: Clock, tmp_path: Path
) -> None:
    def steps() -> Iterator[None]:
        with track_step("meta_training", str(tmp_path), {}) as tracker:
            for number in range(1, 65):
                tracker._progress_at = -1.0
                tracker.progress(number, 1000, "steps")
                yield

    kfp_api.script = [_state("RUNNING")] * 65 + [_state("SUCCEEDED")]
    record(steps())
    _, output, _ = gradsift("submit", "--wait", "--set", f"output_uri={tmp_path}")
    shown = [line.split("(")[1].split("/")[0] for line in _lines(output) if "(" in line]
    assert shown == ["1", "31", "61"]


def test_the_step_that_failed_says_why(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, record: Record, s3_root: str
) -> None:
    def steps() -> Iterator[None]:
        for step in ("calibration-1", "calibration-0"):
            with suppress(TrainingError), track_step(step, s3_root, {}):
                raise TrainingError(f"The disk of {step} is full.")
        yield

    kfp_api.script = [_state("RUNNING"), _state("FAILED", train_runs="RUNNING")]
    record(steps())
    code, _, errors = gradsift("submit", "--wait", "--set", f"output_uri={s3_root}")
    (run_id,) = kfp_api.runs
    assert code == 1
    assert errors == (
        "Error: Step calibration-1 failed: The disk of calibration-1 is full. "
        f"See {kfp_host}/#/runs/details/{run_id}.\n"
    )


def test_a_step_that_was_tried_again_has_not_failed(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, record: Record, tmp_path: Path
) -> None:
    def steps() -> Iterator[None]:
        with suppress(TrainingError), track_step("meta_training", str(tmp_path), {}):
            raise TrainingError("The node is gone.")
        with track_step("meta_training", str(tmp_path), {}):
            pass
        with suppress(TrainingError), track_step("evaluation", str(tmp_path), {}):
            raise TrainingError("The disk is full")
        yield

    kfp_api.script = [_state("RUNNING"), _state("FAILED")]
    record(steps())
    _, _, errors = gradsift("submit", "--wait", "--set", f"output_uri={tmp_path}")
    assert errors.startswith("Error: Step evaluation failed: The disk is full. See http")


@pytest.mark.parametrize(("nodes", "name"), [({}, "meta_training"), ({"meta_train": "FAILED"}, "meta-train")])
def test_a_step_that_was_killed_leaves_no_message(
    kfp_api: KfpApi,
    kfp_host: str,
    gradsift: CommandLine,
    record: Record,
    tmp_path: Path,
    nodes: dict[str, str],
    name: str,
) -> None:
    def steps() -> Iterator[None]:
        with track_step("meta_training", str(tmp_path), {}):
            yield

    kfp_api.script = [_state("RUNNING"), _state("FAILED", **nodes)]
    record(steps())
    code, _, errors = gradsift("submit", "--wait", "--set", f"output_uri={tmp_path}")
    assert code == 1
    assert errors.startswith(
        f"Error: The run failed in {name} and left no message: see {kfp_host}/#/runs/details/"
    )


def test_a_run_that_was_stopped(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, record: Record, tmp_path: Path
) -> None:
    """Its step records that it was ended, which is no failure of the step."""

    def steps() -> Iterator[None]:
        yield
        (run_id,) = kfp_api.runs
        kfp_api._terminate_run(run_id, {}, {})
        with suppress(SystemExit), track_step("meta_training", str(tmp_path), {}):
            raise SystemExit(143)
        yield

    kfp_api.script = [_state("RUNNING")] * 2
    record(steps())
    code, output, errors = gradsift("submit", "--wait", "--set", f"output_uri={tmp_path}")
    (run_id,) = kfp_api.runs
    assert (code, errors) == (1, f"Error: The run was stopped: see {kfp_host}/#/runs/details/{run_id}.\n")
    assert _lines(output)[-1] == "failed, 0 done"


def test_a_record_that_is_out_of_reach_for_a_while_is_kept(
    kfp_api: KfpApi,
    kfp_host: str,
    gradsift: CommandLine,
    record: Record,
    s3_root: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def steps() -> Iterator[None]:
        with track_step("preflight", s3_root, {}):
            pass
        yield
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        yield
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        with track_step("data_preparation", s3_root, {}):
            pass
        yield

    kfp_api.script = [*[_state("RUNNING")] * 3, _state("SUCCEEDED")]
    record(steps())
    code, output, errors = gradsift("submit", "--wait", "--set", f"output_uri={s3_root}")
    assert (code, errors) == (0, "")
    assert _lines(output)[-3] == "running, 1 done"
    assert _lines(output)[-1] == "succeeded, 2 done"
    assert "API" not in output


def test_without_a_record_the_api_counts(kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine) -> None:
    kfp_api.script = [
        _state("PENDING"),
        _state("RUNNING", root_driver="SUCCEEDED", root="RUNNING", prepare_data_driver="SUCCEEDED"),
        _state("RUNNING", root="RUNNING", prepare_data="RUNNING", executor="RUNNING"),
        _state("RUNNING", root="RUNNING", prepare_data="RUNNING", executor="RUNNING"),
        _state("RUNNING", root="RUNNING", prepare_data="SUCCEEDED", meta_train="RUNNING"),
        _state("SUCCEEDED", root="SUCCEEDED", prepare_data="SUCCEEDED", meta_train="SUCCEEDED"),
    ]
    code, output, errors = gradsift("submit", "--wait")
    assert (code, errors) == (0, "")
    pending, note, *lines = _lines(output)
    assert pending == "pending, 0 done"
    assert note.startswith(UNREADABLE)
    assert note.endswith(": Unable to locate credentials.")
    assert lines == [
        "running, 0 done",
        "running, 0 done, now prepare-data",
        "running, 1 done, now meta-train",
        "succeeded, 2 done",
    ]


def test_counts_of_the_api_that_froze_are_reported(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, s3_root: str
) -> None:
    kfp_api.script = [
        _state("RUNNING", prepare_data="RUNNING"),
        _state("RUNNING", prepare_data="SUCCEEDED", meta_train="PENDING"),
        _state("SUCCEEDED", prepare_data="SUCCEEDED", meta_train="PENDING", evaluate="PENDING"),
    ]
    _, output, _ = gradsift("submit", "--wait", "--set", f"output_uri={s3_root}")
    cause = f"the steps have recorded nothing in {s3_root} as it is seen from here."
    assert _lines(output) == [
        "running, 0 done, now prepare-data",
        f"Progress is taken from Kubeflow's API and its counts may be incomplete: {cause}",
        "running, 1 done",
        "Progress is taken from Kubeflow's API and its counts are incomplete, as it has no end of meta-train, "
        f"evaluate: {cause}",
        "succeeded, 1 done",
    ]


@pytest.mark.parametrize(
    ("nodes", "where"),
    [
        (
            {"root": "FAILED", "prepare_data": "SUCCEEDED", "meta_train": "FAILED", "executor(2)": "FAILED"},
            "meta-train",
        ),
        ({"meta_train_driver": "FAILED"}, "meta-train"),
        ({"train-runs(1)": "FAILED", "train-runs(2)": "FAILED"}, "train-runs"),
    ],
)
def test_without_a_record_a_failed_run_names_its_task(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, nodes: dict[str, str], where: str
) -> None:
    kfp_api.script = [_state("RUNNING"), _state("FAILED", **nodes)]
    code, _, errors = gradsift("submit", "--wait")
    (run_id,) = kfp_api.runs
    assert code == 1
    assert errors == (
        f"Error: The run failed in {where} and left no message: see {kfp_host}/#/runs/details/{run_id}.\n"
    )


def test_a_followed_run_outlasts_an_api_that_is_down_for_a_while(
    kfp_api: KfpApi, clock: Clock, gradsift: CommandLine
) -> None:
    """The API answers 503, then is gone, then is there again at the same address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ExitStack() as server:
        host = server.enter_context(serve(kfp_api, port))

        def go_down() -> None:
            if any(request.startswith("GET /runs/") for request in kfp_api.requests):
                server.close()
                clock.on_sleep = come_back

        def come_back() -> None:
            if clock.slept > 600:
                clock.on_sleep = lambda: None
                server.enter_context(serve(kfp_api, port))

        clock.on_sleep = go_down
        kfp_api.script = [_state("RUNNING"), _state("SUCCEEDED")]
        code, output, errors = gradsift("submit", "--wait", "--host", host)
    assert (code, errors) == (0, "")
    assert output.endswith(" succeeded, 0 done\n")
    assert 600 < clock.slept < 700


def test_an_api_that_stays_down_ends_the_following_but_not_the_run(
    kfp_api: KfpApi, kfp_host: str, clock: Clock, gradsift: CommandLine
) -> None:
    kfp_api.script = [_state("RUNNING")]

    def fail(request: str) -> None:
        if request.startswith("GET /runs/") and kfp_api.requests[-1].startswith("GET /runs/"):
            kfp_api.faults = [503]

    kfp_api.before = fail
    code, _, errors = gradsift("submit", "--wait")
    (run_id,) = kfp_api.runs
    assert code == 2
    assert errors == (
        f"Error: Kubeflow Pipelines at {kfp_host} answered 503: upstream connect error or disconnect/reset before "
        f"headers. The run is no longer followed, but goes on: see {kfp_host}/#/runs/details/{run_id}.\n"
    )
    assert 1700 < clock.slept < 1900


def test_a_token_that_expires_while_a_run_is_followed(
    kfp_api: KfpApi, kfp_host: str, clock: Clock, gradsift: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADSIFT_KFP_TOKEN", TOKEN)
    kfp_api.token = TOKEN
    kfp_api.script = [_state("RUNNING")]
    clock.on_sleep = lambda: setattr(kfp_api, "token", "another")
    code, output, errors = gradsift("submit", "--wait")
    assert code == 2
    assert "(401), which is missing, wrong or has expired" in errors
    assert "The run is no longer followed, but goes on: see http" in errors
    assert TOKEN not in output + errors


def test_a_mounted_token_is_read_again_when_it_is_renewed(
    kfp_api: KfpApi,
    kfp_host: str,
    clock: Clock,
    gradsift: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(path))
    assert gradsift("submit") == (
        2,
        "",
        f"Error: KF_PIPELINES_SA_TOKEN_PATH is {str(path)!r}: expected a file that holds a token.\n",
    )

    def renew() -> None:
        kfp_api.token = f"{TOKEN}{clock.slept}"
        path.write_text(f"{kfp_api.token}\n")

    renew()
    clock.on_sleep = renew
    kfp_api.script = [_state("RUNNING"), _state("RUNNING"), _state("SUCCEEDED")]
    code, output, errors = gradsift("submit", "--wait")
    assert (code, errors) == (0, "")
    assert TOKEN not in output
