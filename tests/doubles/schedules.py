"""Schedules as a file has them, and what a test asks of the API's double after they were applied."""

from doubles.kfp_api_double import KfpApi

from gradsift.pipelines.kubeflow.client import open_kubeflow

NIGHTLY = {"name": "nightly", "cron": "0 2 * * *", "time_zone": "UTC"}
WEEKLY = {
    "name": "weekly",
    "cron": "30 0 4 * * sun",
    "time_zone": "UTC",
    "parameters": {"target": "mr"},
}


def ends(host: str, api: KfpApi, run: str | None) -> str:
    """Return the state of a run whose workflow succeeds, if it still has one."""
    api.script = [{"state": "SUCCEEDED"}]
    runs = open_kubeflow(host, None).client.runs
    return str(runs.run_service_get_run(run).state)


def writes(api: KfpApi) -> list[str]:
    """Return the requests that may change something."""
    return [request for request in api.requests if not request.startswith("GET ")]
