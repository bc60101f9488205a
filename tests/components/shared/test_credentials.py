"""Texts are free of credentials: in errors, logs, tracebacks and tracking events, however they are written."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gradsift.components.shared.credentials import VARIABLES, redacted, redacted_json, with_white_space
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.settings import SettingsError
from gradsift.components.shared.tracking.event_log import append_event

SECRET = "pl4nted-S3cret"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("around", ["{}", "{}\n", " \t{}\r\n"])
def test_every_variable_in_every_form(name: str, around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = around.format(SECRET)
    monkeypatch.setenv(name, value)
    for text in (
        value,
        SECRET,
        repr(value),
        repr(value.encode()),
        f"'Bearer {SECRET}\\n'",
        json.dumps(value),
    ):
        assert SECRET not in redacted(f"refused {text} as header")
        assert redacted(f"refused {text} as header").startswith("refused ")


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "azure_client_secret", "PASSWORD", "GCP_CREDENTIALS", "X_CONNECTION_STRING"]
)
def test_what_a_team_adds_to_its_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f"{SECRET}\n")
    assert redacted(f"refused '{SECRET}\\n'") == r"refused '***\n'"


@pytest.mark.parametrize(
    ("name", "value"), [("SORT_KEY", "date"), ("KEYBOARD", "qwertz-keys"), ("GCP_CREDENTIALS", __file__)]
)
def test_short_values_other_names_and_files_are_no_credentials(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert redacted(f"it is {value}") == f"it is {value}"


@given(value=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=4))
def test_whatever_a_credential_holds(value: str) -> None:
    secret = value.strip()
    assume(len(secret) >= 4)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HF_TOKEN", value)
        in_bytes = repr(secret.encode())[2:-1]
        for form in (secret, repr(secret)[1:-1], in_bytes, json.dumps(secret)[1:-1], quote(secret)):
            assert redacted(f"header {form!s} is refused") == "header *** is refused"


def test_a_short_credential_is_replaced_where_it_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw")
    assert redacted("the password 'pw' of pwsh") == "the password '***' of pwsh"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://ada:pw@host:5000/x is down", "http://***@host:5000/x is down"),
        ("s3://ada:p@w@b/key", "s3://***@b/key"),
        ("https://token@host", "https://***@host"),
        ("postgresql+psycopg://ada:pw@h/d and http://h/a@b", "postgresql+psycopg://***@h/d and http://h/a@b"),
    ],
)
def test_logins_in_addresses(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize("password", [SECRET, f"{SECRET}/with/slash", f"{SECRET}@at", quote(f"{SECRET}%&")])
def test_the_password_of_an_address_is_known_wherever_it_stands(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANY_ADDRESS", f"http://ada:{password}@host:5000")
    for text in (f"http://ada:{password}@host:5000", f"wrong password {password}", f"ada:{password}"):
        assert SECRET not in redacted(text)


def test_addresses_without_a_login_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000/path@v1")
    assert redacted("http://host:5000/path@v1 of ada@host") == "http://host:5000/path@v1 of ada@host"


def test_json_values_keep_their_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    value = {"a": [SECRET, 1, None, True, 0.5], SECRET: Path("/x") / SECRET}
    assert redacted_json(value) == {"a": ["***", 1, None, True, 0.5], "***": "/x/***"}


def test_errors_are_redacted_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{SECRET}\n")
    assert str(InputError(f"refused b'{SECRET}\\n'")) == "refused b'***\\n'"
    error = SettingsError([f"suite is {SECRET!r}", f"target is {SECRET!r}"])
    assert SECRET not in str(error) + str(error.problems)


def test_tracking_events_are_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    append_event(tmp_path / "log", "start", params={"suite": f"s3://{SECRET}", "uri": "http://ada:pw@host"})
    params = json.loads((tmp_path / "log").read_text())["params"]
    assert params == {"suite": "s3://***", "uri": "http://***@host"}


OUTPUT = """
import logging, os, sys, threading
from gradsift.components.shared.process.protection import protect_process

secret = os.environ["HF_TOKEN"].strip()
protect_process()
protect_process()
logging.warning("a message with %s", secret)
try:
    raise ValueError(secret)
except ValueError:
    logging.exception("a traceback")

def fail():
    try:
        raise ValueError(f"refused {os.environ['HF_TOKEN']!r}")
    except ValueError as error:
        raise RuntimeError("a sentence") from error

thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


def test_logs_and_tracebacks_of_a_process_are_redacted() -> None:
    environment = {**os.environ, "HF_TOKEN": f"{SECRET}\n"}
    command = [sys.executable, "-c", OUTPUT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert SECRET not in done.stdout + done.stderr
    assert "a message with ***" in done.stderr
    assert done.stderr.count("ValueError: ***") == 1
    assert done.stderr.count("ValueError: refused '***\\n'") == 2
    assert done.stderr.count("RuntimeError: a sentence") == 2


def test_white_space_around_a_credential_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{SECRET}\n")
    monkeypatch.setenv("GRADSIFT_KFP_TOKEN", f" {SECRET}")
    assert with_white_space() == ["AWS_SESSION_TOKEN", "GRADSIFT_KFP_TOKEN"]


def test_a_log_record_is_whole_without_credentials(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("any").info("%d rows of %s", 3, "sst2")
    assert caplog.messages == ["3 rows of sst2"]
