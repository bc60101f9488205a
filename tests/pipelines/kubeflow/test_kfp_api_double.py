"""The double of the Kubeflow Pipelines API behaves as the API does, as the kfp client's models and sources tell."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import pytest
from doubles.kfp_api_double import KfpApi
from doubles.kfp_api_server import serve
from kfp_server_api import ApiException

PIPELINE = str(Path(__file__).parents[3] / "pipelines" / "pipeline.yaml")


@pytest.fixture
def client(kfp_api: KfpApi, kfp_host: str) -> kfp.Client:
    """Return the client as it comes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kfp.Client(kfp_host)


def _fill(client: kfp.Client) -> tuple[str, str, str]:
    """Make one of each by the client's own methods; return the ids of pipeline, version and experiment."""
    body = kfp_server_api.V2beta1Pipeline(display_name="p")
    pipeline = client.pipelines.pipeline_service_create_pipeline(body).pipeline_id
    version = client.upload_pipeline_version(PIPELINE, "v", pipeline_id=pipeline).pipeline_version_id
    experiment = client.create_experiment("e").experiment_id
    client.run_pipeline(
        experiment, "r", params={"fine_tune_steps": 1}, pipeline_id=pipeline, version_id=version
    )
    client.create_recurring_run(
        experiment,
        "s",
        cron_expression="0 0 2 * * *",
        no_catchup=True,
        pipeline_id=pipeline,
        version_id=version,
    )
    return pipeline, version, experiment


def _raw(host: str, path: str) -> Any:
    with urllib.request.urlopen(f"{host}/apis/v2beta1/{path}") as answer:
        return json.load(answer)


def _unknown_fields(value: Any, kind: str) -> set[str]:
    """Return the fields of a JSON value that a model of the client does not have."""
    if item := re.fullmatch(r"list\[(\w+)\]", kind):
        return {field for inner in value for field in _unknown_fields(inner, item[1])}
    model = getattr(kfp_server_api, kind, None)
    if not hasattr(model, "attribute_map") or not isinstance(value, dict):
        return set()
    kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    unknown = {f"{kind}.{field}" for field in value if field not in kinds}
    return unknown.union(*(_unknown_fields(value[field], kinds[field]) for field in value if field in kinds))


def test_answers_have_the_fields_that_the_client_knows(client: kfp.Client, kfp_host: str) -> None:
    pipeline, _, _ = _fill(client)
    for path, kind in {
        "pipelines": "V2beta1ListPipelinesResponse",
        f"pipelines/{pipeline}/versions": "V2beta1ListPipelineVersionsResponse",
        "experiments": "V2beta1ListExperimentsResponse",
        "runs": "V2beta1ListRunsResponse",
        "recurringruns": "V2beta1ListRecurringRunsResponse",
    }.items():
        answer = _raw(kfp_host, path)
        assert answer.get("total_size", 1) == 1
        assert _unknown_fields(answer, kind) == set()


def test_the_client_reads_back_what_it_made(client: kfp.Client) -> None:
    pipeline, version, experiment = _fill(client)
    (run,) = client.list_runs(experiment_id=experiment).runs
    (recurring,) = client.list_recurring_runs().recurring_runs
    assert client.get_pipeline_id("p") == pipeline
    assert client.get_experiment(experiment_name="e").experiment_id == experiment
    assert client.get_run(run.run_id).state == "PENDING"
    assert run.runtime_config.parameters == {"fine_tune_steps": 1}
    assert recurring.pipeline_version_reference.pipeline_version_id == version
    assert (recurring.status, recurring.max_concurrency, recurring.trigger.cron_schedule.cron) == (
        "ENABLED",
        "1",
        "0 0 2 * * *",
    )
    client.disable_recurring_run(recurring.recurring_run_id)
    assert client.list_recurring_runs().recurring_runs[0].status == "DISABLED"
    client.delete_recurring_run(recurring.recurring_run_id)
    assert client.list_recurring_runs().recurring_runs is None


def test_names_of_pipelines_versions_and_experiments_are_unique(client: kfp.Client) -> None:
    pipeline, _, _ = _fill(client)
    for again in (
        lambda: client.pipelines.pipeline_service_create_pipeline(
            kfp_server_api.V2beta1Pipeline(display_name="p")
        ),
        lambda: client.upload_pipeline_version(PIPELINE, "v", pipeline_id=pipeline),
        lambda: client.experiments.experiment_service_create_experiment(
            kfp_server_api.V2beta1Experiment(display_name="e")
        ),
    ):
        with pytest.raises(ApiException) as error:
            again()
        assert error.value.status == 409


def test_names_that_differ_in_case_are_one(client: kfp.Client) -> None:
    pipeline, _, experiment = _fill(client)
    assert client.get_experiment(experiment_name="E").experiment_id == experiment
    with pytest.raises(ApiException) as error:
        client.upload_pipeline_version(PIPELINE, "V", pipeline_id=pipeline)
    assert error.value.status == 409


def test_names_of_runs_and_recurring_runs_are_not(client: kfp.Client, kfp_api: KfpApi) -> None:
    pipeline, version, experiment = _fill(client)
    client.run_pipeline(experiment, "r", pipeline_id=pipeline, version_id=version)
    client.create_recurring_run(
        experiment, "s", cron_expression="0 0 2 * * *", pipeline_id=pipeline, version_id=version
    )
    assert len(kfp_api.runs) == len(kfp_api.recurring_runs) == 2


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"max_concurrency": 0}, 400),
        ({"max_concurrency": 11}, 400),
        ({"cron_expression": "0 2 * *"}, 400),
        ({"params": {"bogus": 1}}, 400),
        ({"params": {"fine_tune_steps": "1"}}, 400),
        ({"job_name": ""}, 500),
        ({"experiment_id": "none"}, 404),
        ({"version_id": "none"}, 500),
    ],
)
def test_recurring_runs_that_are_refused(client: kfp.Client, changes: dict[str, Any], status: int) -> None:
    pipeline, version, experiment = _fill(client)
    good = {"experiment_id": experiment, "job_name": "s", "cron_expression": "0 0 2 * * *"}
    with pytest.raises(ApiException) as error:
        client.create_recurring_run(**{**good, "pipeline_id": pipeline, "version_id": version, **changes})
    assert error.value.status == status
    assert json.loads(error.value.body).keys() == {"code", "message", "details"}


@pytest.mark.parametrize("changes", [{"cron_expression": "@daily"}, {"params": {"fine_tune_steps": None}}])
def test_recurring_runs_that_are_taken(client: kfp.Client, changes: dict[str, Any]) -> None:
    pipeline, version, experiment = _fill(client)
    good = {"experiment_id": experiment, "job_name": "s", "cron_expression": "0 0 2 * * *"}
    made = client.create_recurring_run(**{**good, "pipeline_id": pipeline, "version_id": version, **changes})
    got = client.get_recurring_run(made.recurring_run_id)
    assert (got.display_name, got.status) == ("s", "ENABLED")


def test_a_recurring_run_without_a_trigger_is_taken(client: kfp.Client, kfp_api: KfpApi) -> None:
    pipeline, version, experiment = _fill(client)
    reference = {"pipeline_id": pipeline, "pipeline_version_id": version}
    body = {"display_name": "s", "experiment_id": experiment, "pipeline_version_reference": reference}
    client.recurring_runs.recurring_run_service_create_recurring_run({**body, "max_concurrency": "1"})
    assert len(kfp_api.recurring_runs) == 2


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"params": {"fine_tune_steps": "1"}}, 400),
        ({"params": {"fine_tune_steps": True}}, 400),
        ({"params": {"fine_tune_steps": None}}, 400),
        ({"params": {"target": 1}}, 400),
        ({"job_name": ""}, 500),
        ({"job_name": "x" * 300}, 500),
        ({"experiment_id": "none"}, 404),
        ({"version_id": "none"}, 500),
    ],
)
def test_runs_that_are_refused(client: kfp.Client, changes: dict[str, Any], status: int) -> None:
    pipeline, version, experiment = _fill(client)
    good = {"experiment_id": experiment, "job_name": "s", "pipeline_id": pipeline, "version_id": version}
    with pytest.raises(ApiException) as error:
        client.run_pipeline(**{**good, **changes})
    assert error.value.status == status


def test_a_value_that_is_no_literal_is_refused(kfp_api: KfpApi, client: kfp.Client) -> None:
    pipeline, version, experiment = _fill(client)
    root = kfp_api.versions[version]["pipeline_spec"]["pipeline_spec"]["root"]
    root["inputDefinitions"]["parameters"]["target"]["literals"] = ["mr", "sst2"]
    run = {"experiment_id": experiment, "job_name": "s", "pipeline_id": pipeline, "version_id": version}
    client.run_pipeline(**run, params={"target": "mr"})
    with pytest.raises(ApiException) as error:
        client.run_pipeline(**run, params={"target": "MR"})
    assert error.value.status == 400
    assert "does not match any of the allowed literal values" in error.value.body


def test_a_server_before_literals_refuses_them(kfp_api: KfpApi, client: kfp.Client) -> None:
    kfp_api.literals = False
    with pytest.raises(ApiException) as error:
        _fill(client)
    assert error.value.status == 400
    assert "the pipeline spec is invalid" in error.value.body


def test_a_run_without_experiment_and_version_gets_the_default_ones(client: kfp.Client) -> None:
    pipeline, _, _ = _fill(client)
    newest = client.upload_pipeline_version(PIPELINE, "v2", pipeline_id=pipeline).pipeline_version_id
    body = {"display_name": "r", "pipeline_version_reference": {"pipeline_id": pipeline}}
    run = client.runs.run_service_create_run(body)
    assert run.pipeline_version_reference.pipeline_version_id == newest
    assert client.get_experiment(run.experiment_id).display_name == "Default"


def test_an_uploaded_pipeline_comes_back_beside_its_platform(client: kfp.Client, tmp_path: Path) -> None:
    pipeline, _, _ = _fill(client)
    version = client.upload_pipeline_version(PIPELINE, "v2", pipeline_id=pipeline)
    assert version.pipeline_spec.keys() == {"pipeline_spec", "platform_spec"}
    path = tmp_path / "pipeline.yaml"
    for content in ("a: [", "a: 1", ""):
        path.write_text(content)
        with pytest.raises(ApiException) as error:
            client.upload_pipeline_version(str(path), "v3", pipeline_id=pipeline)
        assert error.value.status == 400
        assert json.loads(error.value.body).keys() == {"error_message", "error_details"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("pipelines/none/versions", 404),
        ("runs?experiment_id=none", 404),
        ("runs?page_token=bad", 400),
        (
            "experiments?filter="
            + urllib.parse.quote('{"predicates": [{"operation": "EQUALS", "key": "x"}]}'),
            400,
        ),
    ],
)
def test_listings_that_are_refused(kfp_host: str, path: str, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        _raw(kfp_host, path)
    assert error.value.code == status


def test_an_experiment_needs_a_name(client: kfp.Client) -> None:
    with pytest.raises(ApiException) as error:
        client.experiments.experiment_service_create_experiment(kfp_server_api.V2beta1Experiment())
    assert error.value.status == 500


def test_the_health_names_the_release(kfp_api: KfpApi, kfp_host: str) -> None:
    assert _raw(kfp_host, "healthz").keys() == {"commit_sha", "tag_name", "multi_user", "pipeline_store"}


def test_a_terminated_run_fails(client: kfp.Client, kfp_api: KfpApi) -> None:
    _fill(client)
    (run,) = kfp_api.runs
    kfp_api.script = [{"state": "RUNNING"}]
    assert client.get_run(run).state == "RUNNING"
    client.terminate_run(run)
    ended = client.get_run(run)
    assert [status.state for status in ended.state_history] == ["PENDING", "RUNNING", "CANCELING", "FAILED"]
    assert (ended.state, ended.error) == ("FAILED", None)


def test_pages(client: kfp.Client, kfp_host: str) -> None:
    for number in range(5):
        client.create_experiment(f"e{number}")
    names, token, sizes = [], "", []
    while True:
        page = client.list_experiments(page_token=token, page_size=2)
        names += [experiment.display_name for experiment in page.experiments]
        sizes.append(len(page.experiments))
        token = page.next_page_token
        if not token:
            break
    assert (names, sizes) == ([f"e{number}" for number in range(5)], [2, 2, 1])
    first = client.list_experiments(page_size=2)
    other = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": "e4"}]})
    with pytest.raises(ApiException) as error:
        client.list_experiments(page_token=first.next_page_token, filter=other)
    assert error.value.status == 400


def test_a_filter_is_unquoted_once_more_than_a_query(client: kfp.Client, kfp_host: str) -> None:
    """So the client's own look-up misses names with a plus or a percent sign."""
    client.create_experiment("a+b")
    with pytest.raises(ValueError, match="No experiment"):
        client.get_experiment(experiment_name="a+b")
    wanted = json.dumps(
        {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": "a+b"}]}
    )
    assert client.list_experiments(filter=urllib.parse.quote(wanted)).experiments[0].display_name == "a+b"


def test_a_deleted_recurring_run_leaves_its_runs_running_for_ever_unless_they_are_orphaned(
    client: kfp.Client, kfp_api: KfpApi
) -> None:
    pipeline, version, experiment = _fill(client)
    (first,) = kfp_api.recurring_runs
    second = client.create_recurring_run(
        experiment, "s", cron_expression="0 0 2 * * *", pipeline_id=pipeline, version_id=version
    ).recurring_run_id
    runs = [kfp_api.fire(first), kfp_api.fire(second)]
    client.delete_recurring_run(first)
    client.recurring_runs.recurring_run_service_delete_recurring_run(second, propagation_policy="ORPHAN")
    kfp_api.script = [{"state": "SUCCEEDED"}]
    assert [client.get_run(run).state for run in runs] == ["RUNNING", "SUCCEEDED"]
    with pytest.raises(ApiException) as error:
        client.delete_recurring_run(first)
    assert error.value.status == 404


def test_a_server_that_went_down_drops_its_connections(kfp_api: KfpApi) -> None:
    with serve(kfp_api) as host:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = kfp.Client(host)
        assert client.list_experiments().experiments is None
    with pytest.raises(Exception, match="Connection refused"):
        client.list_experiments()
    with serve(kfp_api, int(host.rsplit(":", 1)[1])):
        assert client.list_experiments().experiments is None


def test_a_token_is_asked_for(kfp_api: KfpApi, kfp_host: str) -> None:
    kfp_api.token = "right"
    with pytest.raises(urllib.error.HTTPError) as error:
        _raw(kfp_host, "experiments")
    assert error.value.code == 401
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert kfp.Client(kfp_host, existing_token="right").list_experiments().experiments is None
