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
from kfp_api_double import KfpApi
from kfp_api_server import serve
from kfp_server_api import ApiException

PIPELINE = str(Path(__file__).parents[2] / "pipelines" / "pipeline.yaml")


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
    client.run_pipeline(experiment, "r", params={"meta_seed": 1}, pipeline_id=pipeline, version_id=version)
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
        "healthz": "V2beta1GetHealthzResponse",
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
    assert run.runtime_config.parameters == {"meta_seed": 1}
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
        ({"job_name": ""}, 400),
        ({"experiment_id": "none"}, 404),
        ({"version_id": "none"}, 404),
    ],
)
def test_what_cannot_be_is_refused(client: kfp.Client, changes: dict[str, Any], status: int) -> None:
    pipeline, version, experiment = _fill(client)
    good = {"experiment_id": experiment, "job_name": "s", "cron_expression": "0 0 2 * * *"}
    with pytest.raises(ApiException) as error:
        client.create_recurring_run(**{**good, "pipeline_id": pipeline, "version_id": version, **changes})
    assert error.value.status == status
    assert json.loads(error.value.body).keys() == {"error", "code", "message", "details"}


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


@pytest.mark.parametrize("knows_orphans", [True, False])
def test_a_deleted_recurring_run_takes_its_runs_along_unless_they_are_orphaned(
    client: kfp.Client, kfp_api: KfpApi, knows_orphans: bool
) -> None:
    pipeline, version, experiment = _fill(client)
    kfp_api.knows_orphans = knows_orphans
    (first,) = kfp_api.recurring_runs
    second = client.create_recurring_run(
        experiment, "s", cron_expression="0 0 2 * * *", pipeline_id=pipeline, version_id=version
    ).recurring_run_id
    runs = [kfp_api.fire(first), kfp_api.fire(second)]
    client.delete_recurring_run(first)
    client.recurring_runs.recurring_run_service_delete_recurring_run(second, propagation_policy="ORPHAN")
    states = [client.get_run(run).state for run in runs]
    assert states == ["FAILED", "RUNNING" if knows_orphans else "FAILED"]
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
