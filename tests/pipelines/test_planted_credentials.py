"""Secrets planted in every variable and address stay out of everything that commands and steps write."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gradsift.components.preflight.step import preflight
from gradsift.components.shared.credentials import VARIABLES
from gradsift.components.shared.errors import GradsiftError, InputError
from gradsift.components.shared.parameters.pipeline_settings import form_of
from gradsift.components.shared.tracking.tracking import track_step

CommandLine = Callable[..., tuple[int, str, str]]
PLANTED = "pl4nted"
ADDRESSES = {
    "MLFLOW_TRACKING_URI": f"http://ada:{PLANTED}-mlflow@127.0.0.1:9",
    "AWS_ENDPOINT_URL": f"http://ada:{PLANTED}-s3@127.0.0.1:9",
    "HF_ENDPOINT": f"http://ada:{PLANTED}-hub@127.0.0.1:9",
    "KF_PIPELINES_ENDPOINT": f"http://ada:{PLANTED}-kfp@127.0.0.1:9",
}
"""Servers that do not answer."""


def planted(around: str) -> dict[str, str]:
    """Return an environment with a secret in every variable and address, the variables' in a frame."""
    secrets = {name: around.format(f"{PLANTED}-{name.lower()}") for name in VARIABLES}
    # One try per request: what is printed does not depend on how often a server was asked.
    return {**secrets, **ADDRESSES, "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}


@pytest.fixture(params=["{}", "{}\n"], ids=["clean", "line-break"])
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr("gradsift.components.shared.storage.s3.TRIES", 1)
    for name, value in planted(request.param).items():
        monkeypatch.setenv(name, value)
    return planted(request.param)


def written(folder: Path) -> str:
    """Return the content and name of every file below a folder."""
    return "\n".join(
        f"{path}\n{path.read_bytes().decode(errors='replace')}"
        for path in folder.rglob("*")
        if path.is_file()
    )


@pytest.mark.parametrize("root", ["local", "s3://bucket/root", f"s3://ada:{PLANTED}-root@bucket/root"])
def test_preflight(
    root: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "some-run")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    uri = str(tmp_path / "root") if root == "local" else root
    form = form_of(
        {"output_uri": uri, "base_model": "some/model", "suite": f"s3://ada:{PLANTED}-suite@bucket/x"}
    )
    with pytest.raises(GradsiftError) as error:
        preflight(form, tmp_path / "report.md")
    assert PLANTED not in str(error.value) + written(tmp_path)
    assert "suite holds a user name or password" in str(error.value)


def test_credentials_with_white_space_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, f"{PLANTED}\n")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(
        InputError, match="value of MLFLOW_TRACKING_TOKEN, HF_TOKEN: expected the cred"
    ) as error:
        preflight(form_of({"output_uri": str(tmp_path / "root")}), tmp_path / "report.md")
    assert PLANTED not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["doctor", "--output", "root"], "that MLFLOW_TRACKING_URI names does not answer"),
        (["mlflow-sync", "--output", "recorded"], "MLflow at http://127.0.0.1:9 did not take"),
        (["schedule", "list"], "holds a user name or password"),
        (["schedule", "list", "--host", "http://127.0.0.1:9"], "Error: "),
        (
            ["run", "--suite", f"s3://ada:{PLANTED}-suite@b", "--output", "run"],
            "Parameter suite holds a user name",
        ),
        (
            ["submit", "--set", f"output_uri=s3://ada:{PLANTED}-root@b"],
            "Parameter output_uri holds a user name",
        ),
        (["report", "--output", f"s3://ada:{PLANTED}-root@b"], "holds a user name or password"),
        (["store", "info", f"s3://ada:{PLANTED}-root@b"], "holds a user name or password"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands(
    arguments: list[str],
    words: str,
    environment: dict[str, str],
    gradsift: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradsift.pipelines.kubeflow.client.FIRST_RETRY_TIMEOUT", 0.0)
    with track_step("some-step", "recorded", {}):
        pass
    code, output, errors = gradsift(*arguments)
    assert code == 2
    assert words in output + errors
    assert "Traceback" not in errors
    assert PLANTED not in output + errors + written(tmp_path)


def test_doctor_as_a_pod_calls_it(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "gradsift.pipelines.cli.command_line",
        "doctor",
        "--output",
        "root",
    ]
    done = subprocess.run(
        command,
        env={**os.environ, **planted("{}\n")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stdout.count("✗") == 2
    assert "White space stands before or after the value of AWS_ACCESS_KEY_ID" in done.stdout
    assert PLANTED not in done.stdout + done.stderr
