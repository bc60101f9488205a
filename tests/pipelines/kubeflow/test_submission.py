"""`gradsift submit`, by the real kfp client against a double of the API."""

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.kfp_api_double import KfpApi
from doubles.schedules import NIGHTLY

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.pipeline_settings import form_of
from gradsift.pipelines.kubeflow import submission
from gradsift.pipelines.kubeflow.client import open_kubeflow
from gradsift.pipelines.kubeflow.objects import CompiledPipeline, compile_pipeline, ensure_version
from gradsift.pipelines.pipeline import gradsift_pipeline

CommandLine = Callable[..., tuple[int, str, str]]
TOKEN = "eyJhbGciOiJSUzI1NiJ9.planted.secret"


def test_a_run_is_started_with_its_parameters_and_its_address_printed(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine
) -> None:
    code, output, errors = gradsift("submit", "--set", "target=mr", "--set", "meta_epochs=1")
    (run,) = kfp_api.runs.values()
    (version,) = kfp_api.versions.values()
    (experiment,) = kfp_api.experiments.values()
    assert (code, errors) == (0, "")
    assert output == f"Run: {kfp_host}/#/runs/details/{run['run_id']}\n"
    assert run["runtime_config"]["parameters"] == form_of({"target": "mr", "meta_epochs": 1.0})
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert run["experiment_id"] == experiment["experiment_id"]
    assert experiment["display_name"] == "gradsift"
    assert re.fullmatch(r"gradsift mr \d{4}-\d\d-\d\d \d\d:\d\d", run["display_name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{8}", version["display_name"])
    assert version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"].keys() == (
        gradsift_pipeline.component_spec.inputs.keys()
    )


def test_an_upload_carries_the_description_and_submit_finds_it(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, compiled_pipeline: CompiledPipeline
) -> None:
    code, output, errors = gradsift("upload")
    (pipeline,) = kfp_api.pipelines.values()
    (version,) = kfp_api.versions.values()
    place = f"pipelines/details/{pipeline['pipeline_id']}/version/{version['pipeline_version_id']}"
    assert (code, output, errors) == (0, f"Pipeline: {kfp_host}/#/{place}\n", "")
    assert pipeline["description"] == compiled_pipeline.documents[0]["pipelineInfo"]["description"]
    assert kfp_api.runs == {}
    assert gradsift("upload")[0] == gradsift("submit")[0] == 0
    assert len(kfp_api.pipelines) == len(kfp_api.versions) == 1


def test_a_second_run_reuses_version_and_experiment(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine
) -> None:
    options = ("--experiment", "a+b %41", "--run-name", "mine", "--service-account", "trainer")
    assert gradsift("submit", *options)[0] == gradsift("submit", *options)[0] == 0
    assert len(kfp_api.pipelines) == len(kfp_api.versions) == len(kfp_api.experiments) == 1
    assert [(run["display_name"], run["service_account"]) for run in kfp_api.runs.values()] == [
        ("mine", "trainer")
    ] * 2


@pytest.mark.parametrize("command", [("upload",), ("submit",), ("schedule", "apply", "-f")])
@pytest.mark.parametrize(
    ("release", "takes"),
    [
        ("2.17.0", True),
        ("2.16.0-rc.1", True),
        ("v3.0.1", True),
        ("2.15.2", False),
        ("2.9.0", False),
        ("", False),
    ],
)
def test_a_server_gets_the_choices_that_it_takes(
    kfp_api: KfpApi,
    kfp_host: str,
    gradsift: CommandLine,
    file: Callable[..., str],
    command: tuple[str, ...],
    release: str,
    takes: bool,
) -> None:
    kfp_api.release, kfp_api.literals = release, takes
    schedules = [file(NIGHTLY)] if "-f" in command else []
    assert gradsift(*command, *schedules)[::2] == (0, "")
    (version,) = kfp_api.versions.values()
    fields = version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert ("literals" in fields["fine_tune_start"]) is takes
    if schedules:
        plan = gradsift("schedule", "diff", *command[2:], *schedules)[1]
        assert plan == "nightly: keep (0 0 2 * * * UTC)\n"


@pytest.mark.parametrize(("release", "takes"), [((), True), (("--for", "2.15"), False)])
def test_a_pipeline_is_compiled_for_a_release(
    gradsift: CommandLine, tmp_path: Path, release: tuple[str, ...], takes: bool
) -> None:
    path = tmp_path / "pipeline.yaml"
    assert gradsift("compile", "--to", str(path), *release)[0] == 0
    pipeline = CompiledPipeline(path.read_text())
    newest = compile_pipeline().documents
    assert (pipeline.documents == newest) is takes
    for each in newest[0]["root"]["inputDefinitions"]["parameters"].values():
        each.pop("literals", None)
    assert (pipeline.documents == newest) is not takes


def test_a_release_that_is_none(gradsift: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    error = "Error: The release in --for is 'old': expected one such as 2.15.\n"
    assert gradsift("compile", "--to", str(path), "--for", "old") == (2, "", error)
    assert not path.exists()


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
        submission.submit(
            open_kubeflow(kfp_host, None), compiled_pipeline, form_of({}), "gradsift", None, None
        )

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


def test_what_the_api_refuses_is_said_in_its_words(
    kfp_host: str, compiled_pipeline: CompiledPipeline
) -> None:
    kubeflow = open_kubeflow(kfp_host, None)
    with pytest.raises(InputError) as error:
        submission.submit(kubeflow, compiled_pipeline, {**form_of({}), "bogus": 1}, "gradsift", None, None)
    assert str(error.value) == (
        f"Kubeflow Pipelines at {kfp_host} answered 400: Failed to serve POST /runs: Invalid input error: "
        "parameter(s) provided are not required by pipeline: bogus."
    )
