"""The schedules file is checked before anything is sent."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.kfp_api_double import KfpApi
from doubles.schedules import NIGHTLY

from gradsift.components.shared.errors import InputError
from gradsift.pipelines.kubeflow.cron import with_seconds
from gradsift.pipelines.kubeflow.schedules import read_schedules

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ([{"name": "Big", "cron": "0 2 * * *"}], "schedule 'Big', field 'name': string should match pattern"),
        ([{"cron": "0 2 * * *"}], "schedules[0], field 'name': field required"),
        ([{"name": "a", "cron": "0 2 * * *"}], "schedule 'a', field 'time_zone': field required"),
        (
            [{**NIGHTLY, "cron": "0 25 * * *"}],
            "schedule 'nightly', field 'cron' is '0 25 * * *', with the hour '25': ",
        ),
        (
            [{**NIGHTLY, "time_zone": "Mars"}],
            "schedule 'nightly', field 'time_zone' is 'Mars': expected an IANA name",
        ),
        (
            [{**NIGHTLY, "time_zone": "Europe/Berlin"}],
            "schedule 'nightly', field 'time_zone' is 'Europe/Berlin', but Kubeflow reads every cron in one zone, "
            "here 'UTC': expected a cron in that zone, or the cluster's own zone in 'cluster_time_zone'.",
        ),
        (
            [{**NIGHTLY, "max_concurrency": 11}],
            "schedule 'nightly', field 'max_concurrency': input should be less",
        ),
        (
            [{**NIGHTLY, "start": datetime(2026, 1, 1)}],
            "schedule 'nightly', field 'start': input should have timezone",
        ),
        (
            [{**NIGHTLY, "start": datetime(2026, 1, 2, tzinfo=UTC), "end": datetime(2026, 1, 1, tzinfo=UTC)}],
            "schedule 'nightly', field 'end' is not after 'start': expected a later time.",
        ),
        (
            [{**NIGHTLY, "paused": True}],
            "schedule 'nightly', field 'paused': extra inputs are not permitted.",
        ),
        ([NIGHTLY, NIGHTLY], "schedule 'nightly' is there twice: expected another name for each."),
        (
            [{**NIGHTLY, "parameters": {"bogus": 1}}],
            "schedule 'nightly', field 'parameters': There is no parameter 'bogus'; see `gradsift parameters`.",
        ),
        (
            [{**NIGHTLY, "parameters": {"evaluate_seeds": 0}}],
            "schedule 'nightly', field 'parameters': Parameter evaluate_seeds is 0: expected 1 or more.",
        ),
        (
            [{**NIGHTLY, "parameters": {"evaluate_seeds": None}}],
            "schedule 'nightly', field 'parameters.evaluate_seeds': expected a text, a number, true, false, a",
        ),
        ("nightly", "field 'schedules': input should be a valid list."),
    ],
)
def test_a_wrong_file_sends_nothing(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, tmp_path: Path, schedules: Any, message: str
) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_text(yaml.safe_dump({"schedules": schedules}))
    code, output, errors = gradsift("schedule", "apply", "-f", str(path))
    assert (code, output) == (2, "")
    assert errors.startswith(f"Error: {path}: {message}")
    assert kfp_api.requests == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "Cannot read {path}: it does not exist."),
        ("a: [", "The schedules file {path} is not valid YAML in line 1 ("),
        ("- a", "The schedules file {path} holds no mapping: expected one with 'schedules'."),
    ],
)
def test_no_schedules_file(
    kfp_host: str, gradsift: CommandLine, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "schedules.yaml"
    if text:
        path.write_text(text)
    code, _, errors = gradsift("schedule", "diff", "-f", str(path))
    assert code == 2
    assert errors.startswith(f"Error: {message.format(path=path)}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "a\0b"}, "field 'experiment': 'a\\x00b' is not allowed: expected one line of text"),
        ({"service_account": "Not A Name!"}, "field 'service_account' is 'Not A Name!': expected lower-case"),
        ({"start": "2020-13-45"}, "field 'start': input should be a valid datetime"),
    ],
)
def test_what_kubeflow_would_refuse_is_refused(
    file: Callable[..., str], change: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError) as error:
        read_schedules(Path(file({**NIGHTLY, **change})))
    assert f"schedule 'nightly', {message}" in str(error.value)


def test_another_zone_of_the_cluster(file: Callable[..., str]) -> None:
    berlin = {**NIGHTLY, "time_zone": "Europe/Berlin"}
    schedules = read_schedules(Path(file(berlin, cluster_time_zone="Europe/Berlin")))
    assert schedules.schedules[0].time_zone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 2 * * *", "0 0 2 * * *"),
        ("*/15 0-6,22 1,15 jan-MAR/2 mon", "0 */15 0-6,22 1,15 jan-MAR/2 mon"),
        ("5 0 2 ? * 2-6", "5 0 2 ? * 2-6"),
        ("0 0/5 14 * * ?", "0 0/5 14 * * ?"),
    ],
)
def test_cron_gets_seconds(expression: str, expected: str) -> None:
    assert with_seconds(expression) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("0 2 * *", "is '0 2 * *': expected 5 fields, or 6 that begin with the second"),
        ("@daily", "is '@daily': expected 5 fields"),
        ("0 2 * * 7", "the day of week '7': expected * or 0 to 6 or sun to sat"),
        ("0 2 0 * *", "the day of month '0': expected * or 1 to 31"),
        ("60 2 * * *", "the minute '60': expected * or 0 to 59"),
        ("0 6-2 * * *", "the hour '6-2'"),
        ("0 1-2-3 * * *", "the hour '1-2-3'"),
        ("0 */25 * * *", "the hour '*/25'"),
        ("? 2 * * *", "the minute '?'"),
        ("*/0 2 * * *", "the minute '*/0'"),
        ("*/ 2 * * *", "the minute '*/'"),
        ("0 2 * * tues", "the day of week 'tues'"),
        ("0 2, * * *", "the hour '2,'"),
        ("0 -1 * * *", "the hour '-1'"),
    ],
)
def test_a_wrong_cron(expression: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        with_seconds(expression)
    assert message in str(error.value)
