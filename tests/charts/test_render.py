"""What the chart renders is valid, complete, as committed, and names images and objects that exist."""

from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models import (
    TrainerV1alpha1ClusterTrainingRuntime,
    TrainerV1alpha1TrainingRuntime,
    TrainerV1alpha1TrainJob,
)
from typer.main import get_command

from charts.gradsift.values_table import described_values, with_values_table
from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE
from gradsift.components.shared.kubeflow_trainer.train_job_payload import (
    RUNTIME,
    RUNTIME_VARIABLE,
    train_job_payload,
)
from gradsift.components.shared.parameters.kubernetes import PlatformConfig
from gradsift.pipelines.cli.command_line import app
from gradsift.pipelines.kubeflow.schedules import read_schedules
from tests.charts.rendering import CHART, RUNTIMES, VALUE_SETS, Render, golden, render, render_of, values_of

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
# The oldest that Chart.yaml names, and the newest that there are models of.
KUBERNETES = ("1.29", "1.37")
TRAINERS_MODELS = {
    "TrainingRuntime": TrainerV1alpha1TrainingRuntime,
    "ClusterTrainingRuntime": TrainerV1alpha1ClusterTrainingRuntime,
}
NAMESPACED = {
    "ConfigMap",
    "Deployment",
    "Job",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Pod",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
    "TrainingRuntime",
}
every_value_set = pytest.mark.parametrize("value_set", VALUE_SETS)


@every_value_set
def test_lint_finds_nothing_but_the_missing_icon(value_set: str) -> None:
    report = helm_python.lint(CHART, values_of(value_set), strict=True, kube_version="v1.37.0")
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]
    assert report["errors"] == []


@every_value_set
def test_every_object_is_valid_kubernetes(value_set: str) -> None:
    objects = [found for found in render_of(value_set).objects if found["kind"] not in RUNTIMES]
    assert len(objects) >= 6
    for version in KUBERNETES:
        for found in objects:
            assert kubernetes_validate.validate(found, version, strict=True) == version


@every_value_set
def test_the_training_runtime_is_what_kubeflow_trainer_models(value_set: str) -> None:
    (runtime,) = training_runtimes(render_of(value_set))
    assert TRAINERS_MODELS[runtime["kind"]].from_dict(runtime).to_dict() == runtime


@every_value_set
def test_train_jobs_refer_to_the_training_runtime_of_the_release(value_set: str) -> None:
    rendered = render(values_of(value_set), release="prod")
    (runtime,) = training_runtimes(rendered)
    settings = rendered.of_kind("ConfigMap")["prod-gradsift-settings"]["data"]
    pod = {
        "metadata": {"name": "step", "uid": "1"},
        "spec": {"containers": [{"name": "main", "image": TRAIN_IMAGE}]},
    }
    made = train_job_payload("run", "step", pod, settings[RUNTIME_VARIABLE], 2, 1, {}, ["python"])
    assert TrainerV1alpha1TrainJob.from_dict(made).to_dict()["spec"]["runtimeRef"] == {
        "apiGroup": runtime["apiVersion"].split("/")[0],
        "kind": runtime["kind"],
        "name": runtime["metadata"]["name"],
    }


def test_the_default_of_a_train_job_is_the_training_runtime_of_a_release_called_gradsift() -> None:
    settings = render().of_kind("ConfigMap")["gradsift-settings"]["data"]
    assert settings[RUNTIME_VARIABLE] == RUNTIME


@every_value_set
def test_the_training_runtime_alone_needs_kubeflow_trainer(value_set: str) -> None:
    with_trainer, without = render_of(value_set), render_of(value_set, trainer=False)
    assert [found for found in with_trainer.objects if found["kind"] not in RUNTIMES] == without.objects
    assert "no Kubeflow Trainer" in without.notes
    assert "gradsift-torch" in with_trainer.notes


def test_the_training_runtime_can_be_left_to_an_administrator() -> None:
    assert not training_runtimes(render({"trainingRuntime": {"create": False}}))


def test_a_training_runtime_for_the_whole_cluster_outlives_its_release_and_serves_others() -> None:
    first = render({"trainingRuntime": {"scope": "cluster"}}, namespace="first")
    other = render({"trainingRuntime": {"scope": "cluster", "create": False}}, namespace="other")
    (runtime,) = first.of_kind("ClusterTrainingRuntime").values()
    assert runtime["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert not training_runtimes(other)
    assert first.of_kind("ConfigMap") == other.of_kind("ConfigMap")
    # Its pods use what every release of this name has in its own namespace.
    ((_, pod),) = [each for each in first.pods() if each[0].startswith(RUNTIMES)]
    assert pod["spec"]["serviceAccountName"] in other.of_kind("ServiceAccount")


@pytest.mark.parametrize("value_set", ["default", "everything"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("gradsift", "team-a"), ("gradsift", "team-b")),
        (("gradsift", "team"), ("prod", "team")),
        (("blue", "team"), ("green", "team")),
    ],
)
def test_two_releases_share_no_object_and_no_pod(
    value_set: str, first: tuple[str, str], second: tuple[str, str]
) -> None:
    renders = [
        render(values_of(value_set), release=release, namespace=namespace)
        for release, namespace in (first, second)
    ]
    one, other = (
        identities(rendered, namespace)
        for rendered, (_, namespace) in zip(renders, (first, second), strict=True)
    )
    assert one
    assert not one & other
    if first[1] == second[1]:
        for service in renders[0].of_kind("Service").values():
            for _, pod in renders[1].pods():
                assert not service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


@every_value_set
def test_renders_are_as_committed(value_set: str) -> None:
    """Renew them by `python -m tests.charts.rendering`, and read the difference."""
    assert render_of(value_set).manifest == golden(value_set).read_text()


def test_images_are_those_of_the_release() -> None:
    schedules = {"enabled": True, "spec": {"schedules": []}}
    images = {
        name: container["image"]
        for name, pod in render({"schedules": schedules}).pods()
        for container in pod["spec"]["containers"]
    }
    assert images == {
        "Pod/gradsift-doctor": CPU_IMAGE,
        "Job/gradsift-schedules": CPU_IMAGE,
        "TrainingRuntime/gradsift-torch": TRAIN_IMAGE,
    }


def test_a_digest_goes_before_a_tag_and_a_registry_in_front() -> None:
    images = {
        "registry": "example.com:5000/",
        "train": {"tag": "9", "digest": f"sha256:{'a' * 64}"},
        "cpu": {"tag": "9"},
    }
    found = {pod["spec"]["containers"][0]["image"] for _, pod in render({"images": images}).pods()}
    assert found == {"example.com:5000/gradsift/cpu:9", f"example.com:5000/gradsift/train@sha256:{'a' * 64}"}


@every_value_set
@pytest.mark.parametrize("release", ["gradsift", "prod", "x" * 53])
def test_names_are_unique_and_short_enough(value_set: str, release: str) -> None:
    objects = render(values_of(value_set), release=release).objects
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(set(names)) == len(names)
    # 52: what StatefulSets and Jobs append must fit into a label of 63.
    assert all(len(name) <= 52 for kind, name in names if kind != "RoleBinding")
    assert {"gradsift": "gradsift-", "prod": "prod-gradsift-"}.get(release, "xxx") in names[0][1]


@every_value_set
def test_everything_referred_to_is_rendered_or_named_in_the_values(value_set: str) -> None:
    rendered = render_of(value_set)
    secrets = rendered.of_kind("Secret").keys() | _existing_secrets(values_of(value_set))
    for name, pod in rendered.pods():
        spec = pod["spec"]
        account = spec.get("serviceAccountName")
        assert account is None or account in rendered.of_kind("ServiceAccount"), name
        for container in spec["containers"]:
            sources = [
                *container.get("envFrom", []),
                *(e.get("valueFrom", {}) for e in container.get("env", [])),
            ]
            for reference in [r for source in sources for kind, r in source.items() if "ecret" in kind]:
                assert reference["name"] in secrets or reference.get("optional"), name
            for reference in [r for source in sources for kind, r in source.items() if "onfigMap" in kind]:
                config = rendered.of_kind("ConfigMap")[reference["name"]]
                assert reference.get("optional") or reference.get("key") in {None, *config["data"]}, name
        for volume in spec.get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in rendered.of_kind("PersistentVolumeClaim"), name
            if config := volume.get("configMap"):
                assert config["name"] in rendered.of_kind("ConfigMap"), name
        mounts = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        claims = {"data"} if name.startswith("StatefulSet") else set()
        assert mounts == {volume["name"] for volume in spec["volumes"]} | claims, name


def test_a_release_called_gradsift_makes_what_the_pods_of_the_pipeline_mount_by_default() -> None:
    rendered, mounted = render_of("everything"), PlatformConfig()
    assert rendered.of_kind("Secret")[mounted.secret]["data"].keys() == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_TRACKING_TOKEN",
        "HF_TOKEN",
    }
    assert mounted.settings in rendered.of_kind("ConfigMap")


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"hub": {"token": "x"}}, {"HF_TOKEN"}),
        ({"mlflow": {"token": "x"}}, {"MLFLOW_TRACKING_TOKEN"}),
        (
            {"s3": {"accessKeyId": "x", "secretAccessKey": "x"}},
            {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
        ),
    ],
    ids=["hub", "mlflow", "s3"],
)
def test_the_secret_has_the_keys_that_values_are_given_for(values: dict[str, Any], keys: set[str]) -> None:
    (secret,) = render(values).of_kind("Secret").values()
    assert secret["data"].keys() == keys


@pytest.mark.parametrize(
    ("values", "name"), [({}, "prod-gradsift"), ({"existingSecret": "team-credentials"}, "team-credentials")]
)
def test_the_notes_and_the_doctor_name_the_secret_of_the_release(values: dict[str, Any], name: str) -> None:
    rendered = render(values, release="prod")
    assert f"credentials          {name} (Secret)" in rendered.notes
    (container,) = rendered.of_kind("Pod")["prod-gradsift-doctor"]["spec"]["containers"]
    assert [each["secretRef"] for each in container["envFrom"] if "secretRef" in each] == [
        {"name": name, "optional": True}
    ]


def test_services_reach_the_pods_of_their_name() -> None:
    rendered = render_of("everything")
    for name, service in rendered.of_kind("Service").items():
        selected = [
            (pod_name, pod)
            for pod_name, pod in rendered.pods()
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        ((pod_name, pod),) = selected
        assert pod_name.split("/")[1] == name
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} == ports


def test_mlflow_reaches_s3_as_the_steps_do() -> None:
    """It has settings and credentials of S3 and the proxy by reference, and none of a client of MLflow."""
    rendered = render_of("everything")
    ((_, pod),) = [each for each in rendered.pods() if each[0] == "Deployment/gradsift-mlflow"]
    (container,) = pod["spec"]["containers"]
    sources = [each["valueFrom"] for each in container["env"] if "valueFrom" in each]
    settings = {each["configMapKeyRef"]["key"] for each in sources if "configMapKeyRef" in each}
    secrets = {
        (each["secretKeyRef"]["name"], each["secretKeyRef"]["key"])
        for each in sources
        if "secretKeyRef" in each
    }
    extra = values_of("everything")["settings"]["extra"]
    assert settings == {"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", *extra}
    s3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    assert secrets == {("gradsift-postgresql", "POSTGRES_PASSWORD"), *(("gradsift", key) for key in s3)}
    assert "envFrom" not in container
    assert extra.items() <= rendered.of_kind("ConfigMap")["gradsift-settings"]["data"].items()


def test_mlflow_answers_to_every_name_it_is_called_by() -> None:
    rendered = render_of("everything")
    (container,) = rendered.of_kind("Deployment")["gradsift-mlflow"]["spec"]["template"]["spec"]["containers"]
    arguments = dict(argument.split("=", 1) for argument in container["args"])
    settings = rendered.of_kind("ConfigMap")["gradsift-settings"]["data"]
    host = settings["MLFLOW_TRACKING_URI"].removeprefix("http://").removesuffix(":5000")
    assert host == "gradsift-mlflow.team.svc"
    assert f"{host}:*" in arguments["--allowed-hosts"].split(",")
    assert "mlflow.example.com" in arguments["--allowed-hosts"].split(",")
    assert arguments["--cors-allowed-origins"] == "https://mlflow.example.com"
    assert arguments["--backend-store-uri"] == "postgresql+psycopg2://mlflow@gradsift-postgresql:5432/mlflow"


@pytest.mark.parametrize("value_set", ["everything", "existing_secrets"])
def test_schedules_are_applied_after_an_install_by_a_command_that_exists(
    value_set: str, tmp_path: Path
) -> None:
    rendered = render_of(value_set)
    file = tmp_path / "schedules.yaml"
    file.write_text(rendered.of_kind("ConfigMap")["gradsift-schedules"]["data"]["schedules.yaml"])
    assert [schedule.name for schedule in read_schedules(file).schedules] == ["nightly"]
    job = rendered.of_kind("Job")["gradsift-schedules"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["gradsift", "schedule", "apply"]
    apply = get_command(app).commands["schedule"].commands["apply"]  # type: ignore[attr-defined]
    options = apply.make_context("apply", container["command"][3:]).params
    assert options == {
        "file": Path("/etc/gradsift/schedules.yaml"),
        "host": values_of(value_set).get("pipelines", DEFAULTS["pipelines"])["host"],
        "namespace": "team" if value_set == "everything" else None,
    }


def test_the_schedules_job_has_a_token_for_kubeflow_pipelines_where_there_are_profiles() -> None:
    def tokens(value_set: str) -> list[str]:
        spec = render_of(value_set).of_kind("Job")["gradsift-schedules"]["spec"]["template"]["spec"]
        sources = [
            source for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", [])
        ]
        return [source["serviceAccountToken"]["audience"] for source in sources]

    assert tokens("everything") == ["pipelines.kubeflow.org"]
    assert tokens("existing_secrets") == []


def test_a_package_renders_alike_and_holds_no_script(tmp_path: Path) -> None:
    archive = Path(helm_python.package(CHART, destination=tmp_path))
    with helm_python.Chart.load(archive) as packaged:
        assert {file["name"] for file in packaged.files} == {".helmignore", "README.md"}
    assert render(chart=archive).objects == render().objects


def test_readme_has_the_table_of_values() -> None:
    """Renew it by `python charts/gradsift/values_table.py`."""
    readme, values = (CHART / "README.md").read_text(), (CHART / "values.yaml").read_text()
    assert with_values_table(readme, values) == readme


def test_every_value_is_described() -> None:
    described = {name for name, _, _ in described_values((CHART / "values.yaml").read_text())}

    def leaves(values: dict[str, object], prefix: str = "") -> set[str]:
        found = set()
        for key, value in values.items():
            name = f"{prefix}{key}"
            nested = isinstance(value, dict) and value and name not in described
            found |= leaves(value, f"{name}.") if nested else {name}  # type: ignore[arg-type]
        return found

    assert leaves(DEFAULTS) == described


def test_every_file_is_ascii() -> None:
    for path in CHART.rglob("*"):
        assert not path.is_file() or path.suffix == ".pyc" or path.read_bytes().isascii(), path


def training_runtimes(rendered: Render) -> list[dict[str, Any]]:
    return [found for found in rendered.objects if found["kind"] in RUNTIMES]


def identities(rendered: Render, namespace: str) -> set[tuple[str, str, str]]:
    """Return kind, namespace (empty: the whole cluster's) and name of every object."""
    return {
        (found["kind"], namespace if found["kind"] in NAMESPACED else "", found["metadata"]["name"])
        for found in rendered.objects
    }


def _existing_secrets(values: Any) -> set[str]:
    if not isinstance(values, dict):
        return set()
    found = {values["existingSecret"]} if "existingSecret" in values else set()
    return found.union(*map(_existing_secrets, values.values()))
