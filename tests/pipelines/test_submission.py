"""`gradsift submit`, by the real kfp client against a double of the API."""

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from doubles.kfp_api_double import KfpApi
from doubles.kfp_api_server import serve
from fake_clock import Clock

from gradsift.components.shared.errors import InputError
from gradsift.pipelines import submission
from gradsift.pipelines.kubeflow_client import open_kubeflow
from gradsift.pipelines.kubeflow_objects import CompiledPipeline, compile_pipeline, ensure_version
from gradsift.pipelines.pipeline import gradsift_pipeline

CommandLine = Callable[..., tuple[int, str, str]]
TOKEN = "eyJhbGciOiJSUzI1NiJ9.planted.secret"


def _state(state: str, **nodes: str) -> dict[str, Any]:
    """A run's fields in a state, with nodes of the workflow in theirs."""
    details = [{"display_name": name.replace("_", "-"), "state": node} for name, node in nodes.items()]
    return {"state": state, "run_details": {"task_details": details}}


def test_a_run_is_started_with_its_parameters_and_its_address_printed(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine
) -> None:
    code, output, errors = gradsift("submit", "--set", "prepare_target=mr", "--set", "meta_epochs=1")
    (run,) = kfp_api.runs.values()
    (version,) = kfp_api.versions.values()
    (experiment,) = kfp_api.experiments.values()
    assert (code, errors) == (0, "")
    assert output == f"Run: {kfp_host}/#/runs/details/{run['run_id']}\n"
    assert run["runtime_config"]["parameters"] == {"prepare_target": "mr", "meta_epochs": 1.0}
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert run["experiment_id"] == experiment["experiment_id"]
    assert experiment["display_name"] == "gradsift"
    assert version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"].keys() == (
        gradsift_pipeline.component_spec.inputs.keys()
    )


def test_a_second_run_reuses_version_and_experiment(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine
) -> None:
    options = ("--experiment", "a+b %41", "--run-name", "mine", "--service-account", "trainer")
    assert gradsift("submit", *options)[0] == gradsift("submit", *options)[0] == 0
    assert len(kfp_api.pipelines) == len(kfp_api.versions) == len(kfp_api.experiments) == 1
    assert [(run["display_name"], run["service_account"]) for run in kfp_api.runs.values()] == [
        ("mine", "trainer")
    ] * 2


def test_the_version_is_named_by_what_counts() -> None:
    pipeline = compile_pipeline()
    assert "sdkVersion: kfp-" in pipeline.yaml
    other_sdk = CompiledPipeline(
        "# a comment\n" + pipeline.yaml.replace("sdkVersion: kfp-", "sdkVersion: x-")
    )
    assert other_sdk.version == pipeline.version == compile_pipeline().version
    for changed in (("image: ", "image: other/"), ("medium: Memory", "medium: ''")):
        assert changed[0] in pipeline.yaml
        assert CompiledPipeline(pipeline.yaml.replace(*changed)).version != pipeline.version


def test_an_older_pipeline_stays_beside_a_changed_one(
    kfp_api: KfpApi, kfp_host: str, compiled_pipeline: CompiledPipeline
) -> None:
    kubeflow, pipeline = open_kubeflow(kfp_host, None), compiled_pipeline
    changed = CompiledPipeline(pipeline.yaml.replace("image: ", "image: other/"))
    first = ensure_version(kubeflow, pipeline)
    assert ensure_version(kubeflow, changed).pipeline_id == first.pipeline_id
    assert ensure_version(kubeflow, pipeline) == first
    assert [version["name"] for version in kfp_api.versions.values()] == [pipeline.version, changed.version]


def test_what_exists_is_found_beyond_the_first_page(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine
) -> None:
    for number in range(5):
        kfp_api._create_experiment({}, {"display_name": f"other-{number}"})
    kfp_api.max_page_size = 1
    assert gradsift("submit")[0] == gradsift("submit")[0] == 0
    assert len(kfp_api.experiments) == 6


@pytest.mark.parametrize("kind", ["POST /pipelines", "POST /pipelines/upload_version", "POST /experiments"])
def test_what_somebody_else_makes_in_between_is_used(
    kfp_api: KfpApi, kfp_host: str, compiled_pipeline: CompiledPipeline, gradsift: CommandLine, kind: str
) -> None:
    def submit() -> None:
        submission.submit(open_kubeflow(kfp_host, None), compiled_pipeline, {}, "gradsift", None, None)

    def race(request: str) -> None:
        if request == kind:
            kfp_api.before = lambda request: None
            thread = threading.Thread(target=submit)
            thread.start()
            thread.join()

    kfp_api.before = race
    assert gradsift("submit")[::2] == (0, "")
    assert len(kfp_api.pipelines) == len(kfp_api.versions) == len(kfp_api.experiments) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("bogus=1", "There is no parameter 'bogus'; see `gradsift parameters`."),
        ("evaluate_seeds=0", "Parameter evaluate_seeds is 0: expected 1 or more."),
    ],
)
def test_impossible_parameters_send_nothing(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, setting: str, message: str
) -> None:
    assert gradsift("submit", "--set", setting) == (2, "", f"Error: {message}\n")
    assert kfp_api.requests == []


@pytest.mark.parametrize("option", ["--run-name", "--experiment"])
@pytest.mark.parametrize("name", ["", "x" * 300])
def test_a_name_that_kubeflow_cannot_keep(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, option: str, name: str
) -> None:
    assert gradsift("submit", option, name) == (
        2,
        "",
        f"Error: The name in {option} has {len(name)} characters: expected 1 to 255.\n",
    )
    assert len(kfp_api.requests) == 1


def test_an_experiment_is_found_whatever_its_case(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine
) -> None:
    for name in ("reviews", "Reviews"):
        assert gradsift("submit", "--experiment", name)[0] == 0
    assert len(kfp_api.experiments) == 1
    assert len(kfp_api.runs) == 2


def test_a_run_is_followed_to_its_end(kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine) -> None:
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
    assert [line.split(maxsplit=1)[1] for line in output.splitlines()[1:]] == [
        "pending, 0 done",
        "running, 0 done",
        "running, 0 done, now prepare-data",
        "running, 1 done, now meta-train",
        "succeeded, 2 done",
    ]


def test_a_failed_run_names_its_task(kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine) -> None:
    failed = _state("FAILED", root="FAILED", prepare_data="SUCCEEDED", meta_train="FAILED")
    failed["run_details"]["task_details"] += [{"display_name": "executor(2)", "state": "FAILED"}]
    kfp_api.script = [_state("RUNNING"), failed]
    code, _, errors = gradsift("submit", "--wait")
    (run_id,) = kfp_api.runs
    assert code == 1
    assert errors == f"Error: The run failed in meta-train: see {kfp_host}/#/runs/details/{run_id}.\n"


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (_state("FAILED", meta_train_driver="FAILED"), "The run failed in meta-train: see "),
        (
            {**_state("FAILED"), "error": {"code": 13, "message": "no\nquota"}},
            "The run failed (no quota): see ",
        ),
        (_state("CANCELED", prepare_data="SUCCEEDED"), "The run was stopped: see "),
        (
            _state("FAILED", **{"calibrate(1)": "FAILED", "calibrate(2)": "FAILED"}),
            "The run failed in calibrate: ",
        ),
    ],
)
def test_other_bad_ends(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, last: dict[str, Any], message: str
) -> None:
    kfp_api.script = [last]
    code, _, errors = gradsift("submit", "--wait")
    assert code == 1
    assert errors.startswith(f"Error: {message}")


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


def test_passing_faults_are_outlasted_before_the_run_starts(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine
) -> None:
    kfp_api.faults = [503, 500, None, 502, None, 429, None, None, 504]
    assert gradsift("submit")[::2] == (0, "")
    assert len(kfp_api.versions) == len(kfp_api.runs) == 1


def test_the_start_of_a_run_is_not_tried_twice(kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine) -> None:
    def fail(request: str) -> None:
        if request == "POST /runs":
            kfp_api.faults = [503]

    kfp_api.before = fail
    code, _, errors = gradsift("submit")
    (experiment_id,) = kfp_api.experiments
    assert code == 2
    assert errors.endswith(
        f" The run may have started: see {kfp_host}/#/experiments/details/{experiment_id} before you try again.\n"
    )
    assert kfp_api.requests.count("POST /runs") == 1


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


def test_what_the_api_refuses_is_said_in_its_words(
    kfp_host: str, compiled_pipeline: CompiledPipeline
) -> None:
    kubeflow = open_kubeflow(kfp_host, None)
    with pytest.raises(InputError) as error:
        submission.submit(kubeflow, compiled_pipeline, {"bogus": 1}, "gradsift", None, None)
    assert str(error.value) == (
        f"Kubeflow Pipelines at {kfp_host} answered 400: Failed to serve POST /runs: Invalid input error: "
        "parameter(s) provided are not required by pipeline: bogus."
    )
