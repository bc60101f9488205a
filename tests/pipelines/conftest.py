"""Fixtures for what talks to Kubeflow Pipelines: a double of its API, quick waiting, the command line."""

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from doubles.fake_clock import Clock
from doubles.kfp_api_double import KfpApi
from doubles.kfp_api_server import serve

from gradsift.pipelines.cli.command_line import main
from gradsift.pipelines.kubeflow import client, objects, schedule_changes, submission
from gradsift.pipelines.kubeflow.objects import CompiledPipeline, compile_pipeline

VARIABLES = (
    "GRADSIFT_KFP_TOKEN",
    "KF_PIPELINES_ENDPOINT",
    "KF_PIPELINES_UI_ENDPOINT",
    "KF_PIPELINES_SA_TOKEN_PATH",
    "SSL_CERT_FILE",
)
compile_once = cache(compile_pipeline)
CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let waiting between requests take no time."""
    clock = Clock()
    for module in (client, schedule_changes, submission):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=clock.sleep, monotonic=clock.monotonic))
    return clock


@pytest.fixture
def kfp_api() -> KfpApi:
    """Return the state of a Kubeflow Pipelines API."""
    return KfpApi()


@pytest.fixture(scope="session")
def compiled_pipeline() -> CompiledPipeline:
    """Compile the pipeline, once for all tests."""
    return compile_once(KfpApi().release)


@pytest.fixture
def kfp_host(kfp_api: KfpApi, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve that API and return its address, which the command line knows too; nothing reaches a run root on S3."""
    monkeypatch.setattr(objects, "compile_pipeline", compile_once)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serve(kfp_api) as host:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", host)
        yield host


@pytest.fixture
def gradsift(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    """Return what runs the command line: its exit code, output and errors come back."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gradsift", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    """Return what writes a schedules file and returns its path."""

    def write(*schedules: dict[str, Any], **fields: Any) -> str:
        path = tmp_path / "schedules.yaml"
        path.write_text(yaml.safe_dump({**fields, "schedules": list(schedules)}))
        return str(path)

    return write
