"""Wrong values are refused before anything is installed, by a sentence that shows no credential."""

from typing import Any

import helm_python
import pytest

from tests.charts.rendering import CHART, render

SERVER: dict[str, Any] = {"enabled": True, "artifacts": "s3://bucket/mlflow"}
DATABASE = {"existingSecret": "database"}


def nested(name: str, value: Any) -> dict[str, Any]:
    """Return the values that `--set name=value` makes."""
    for key in reversed(name.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("schedule.enabled", True, "'schedule' not allowed"),
        ("s3.accessKey", "x", "'accessKey' not allowed"),
        ("s3.endpoint", "s3.example.com", "/s3/endpoint"),
        ("existingSecret", "Not A Name", "/existingSecret"),
        ("existingSecret", "no.name-of-a-volume", "/existingSecret"),
        ("s3.region", "", "/s3/region"),
        ("images.pullPolicy", "Sometimes", "/images/pullPolicy"),
        ("images.cpu.digest", "sha256:12", "/images/cpu/digest"),
        ("images.pullSecrets", "registry", "/images/pullSecrets"),
        ("security.runAsUser", 0, "/security/runAsUser"),
        ("launcher.roles", [{"kind": "Roles", "name": "x"}], "/launcher/roles/0/kind"),
        ("launcher.roles", [{"kind": "Role"}], "missing property 'name'"),
        ("launcher.annotations", {"a": 1}, "/launcher/annotations/a"),
        ("mlflow.server.artifacts", "/data", "/mlflow/server/artifacts"),
        ("mlflow.server.resources", {"limit": {}}, "'limit' not allowed"),
        ("mlflow.postgresql.size", 10, "/mlflow/postgresql/size"),
        ("settings.extra", {"NO_PROXY": 1}, "/settings/extra/NO_PROXY"),
        ("trainingRuntime.scope", "release", "/trainingRuntime/scope"),
        ("trainingRuntime.sharedMemory", "16 GB", "/trainingRuntime/sharedMemory"),
        ("modelCache.accessModes", [], "/modelCache/accessModes"),
        ("pipelines.host", "ml-pipeline:8888", "/pipelines/host"),
        ("pipelines.multiUser", "no", "/pipelines/multiUser"),
        ("schedules.enabled", True, "/schedules/spec"),
        ("networkPolicy.egress", [{}], "/networkPolicy/egress/0"),
    ],
)
def test_the_schema_rejects(name: str, value: Any, message: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=message):
        render(nested(name, value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"s3": {"accessKeyId": "PLANTED"}}, "s3.secretAccessKey is needed"),
        ({"s3": {"secretAccessKey": "PLANTED"}}, "s3.accessKeyId is needed"),
        ({"s3": {"endpoint": "https://user:PLANTED@s3.example.com"}}, "AWS_ENDPOINT_URL holds a user name"),
        ({"mlflow": {"trackingUri": "http://PLANTED@mlflow:5000"}}, "MLFLOW_TRACKING_URI holds a user name"),
        (
            {"settings": {"extra": {"HTTPS_PROXY": "http://user:PLANTED@proxy"}}},
            "HTTPS_PROXY holds a user name",
        ),
        ({"settings": {"extra": {"AWS_SECRET_ACCESS_KEY": "PLANTED"}}}, "looks like a credential"),
        ({"settings": {"extra": {"HOME": "/home"}}}, "settings.extra.HOME is set by another value"),
        ({"settings": {"extra": {"NO-PROXY": ".svc"}}}, 'settings.extra has the name "NO-PROXY"'),
        ({"settings": {"extra": {"no_proxy": ".svc"}}}, 'has the name "no_proxy": .* of capital letters'),
        (
            {"s3": {"existingSecret": "a"}, "hub": {"existingSecret": "b"}},
            "no longer has s3.existingSecret and hub.existingSecret: put the keys of all services into one Secret",
        ),
        (
            {"mlflow": {"existingSecret": "a"}},
            "no longer has mlflow.existingSecret: .* name it by existingSecret",
        ),
        ({"mlflow": {"server": SERVER}}, "mlflow.postgresql.existingSecret or .password is needed"),
        (
            {"mlflow": {"server": {"enabled": True}, "postgresql": DATABASE}},
            "mlflow.server.artifacts is needed",
        ),
    ],
)
def test_the_templates_reject(values: dict[str, Any], message: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=message) as caught:
        render(values)
    assert "PLANTED" not in str(caught.value)


def test_an_upgrade_may_reuse_the_empty_values_of_a_chart_with_three_secrets() -> None:
    reused = {service: {"existingSecret": ""} for service in ("s3", "mlflow", "hub")}
    assert render(reused).objects == render().objects


@pytest.mark.parametrize(
    "name",
    ["s3.accessKeyId", "s3.secretAccessKey", "hub.token", "mlflow.token", "mlflow.postgresql.password"],
)
def test_a_credential_of_the_wrong_type_is_not_shown(name: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as caught:
        render(nested(name, [98765]))
    assert "98765" not in str(caught.value)


def test_the_schema_knows_every_value_and_no_other() -> None:
    with helm_python.Chart.load(CHART) as chart:
        schema, values = chart.schema, chart.values
    assert schema is not None
    removed = {"$ref": "#/definitions/removed"}

    def agree(schema_node: dict[str, Any], defaults: Any) -> None:
        if reference := schema_node.get("$ref"):
            schema_node = schema["definitions"][reference.removeprefix("#/definitions/")]
        if "properties" in schema_node and isinstance(defaults, dict):
            assert schema_node["additionalProperties"] is False
            known = {key: child for key, child in schema_node["properties"].items() if child != removed}
            assert known.keys() - {"global"} >= defaults.keys()
            for key, child in known.items():
                if key != "global" and not (defaults and "requests" in defaults):
                    agree(child, defaults[key])

    agree(schema, values)
