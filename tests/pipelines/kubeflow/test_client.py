"""How the Kubeflow Pipelines API is reached, by the real kfp client against a double of it."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from doubles.certificates import self_signed
from doubles.fake_clock import Clock
from doubles.kfp_api_double import KfpApi
from doubles.kfp_api_server import serve

CommandLine = Callable[..., tuple[int, str, str]]
TOKEN = "eyJhbGciOiJSUzI1NiJ9.planted.secret"


@pytest.mark.parametrize("host", ["127.0.0.1:8888", "ftp://127.0.0.1", "httpd.example.com"])
@pytest.mark.parametrize("place", ["option", "variable"])
def test_an_address_without_a_scheme(
    kfp_api: KfpApi,
    kfp_host: str,
    gradsift: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    place: str,
) -> None:
    if place == "variable":
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", host)
    assert gradsift("submit", *(["--host", host] if place == "option" else [])) == (
        2,
        "",
        f"Error: The address {host!r} of Kubeflow Pipelines has no scheme: expected http:// or https:// before it, "
        "in --host or KF_PIPELINES_ENDPOINT.\n",
    )
    assert kfp_api.requests == []


def test_an_address_that_speaks_no_tls(kfp_host: str, clock: Clock, gradsift: CommandLine) -> None:
    host = kfp_host.replace("http://", "https://")
    code, output, errors = gradsift("submit", "--host", host)
    assert (code, output) == (2, "")
    assert errors.startswith(f"Error: Kubeflow Pipelines at {host} cannot be reached by TLS (")
    assert errors.endswith(
        "expected http:// in --host if it has no TLS, else a valid certificate for this address, from an authority "
        "of `certifi` or of the file in SSL_CERT_FILE.\n"
    )
    assert 5 < clock.slept < 15


def test_a_certificate_is_trusted_only_if_its_authority_is(
    kfp_api: KfpApi,
    clock: Clock,
    gradsift: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kfp_host: str,
) -> None:
    key, certificate = self_signed()
    (tmp_path / "server.pem").write_bytes(key + certificate)
    (tmp_path / "ca.crt").write_bytes(certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    with serve(kfp_api, tls=tls) as host:
        code, _, errors = gradsift("submit", "--host", host)
        assert code == 2
        assert f"at {host} cannot be reached by TLS (SSLError [SSL: CERTIFICATE_VERIFY_FAILED]" in errors
        assert kfp_api.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        assert gradsift("submit", "--host", host)[::2] == (0, "")


def test_an_error_page_that_is_no_text(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = SimpleNamespace(encode=lambda: b"\xff\xfe")
    monkeypatch.setattr("doubles.kfp_api_server.json.dumps", lambda answer: page)
    kfp_api.faults = [403]
    assert gradsift("submit") == (
        2,
        "",
        f"Error: Kubeflow Pipelines at {kfp_host} answered 403: Forbidden.\n",
    )


def test_an_address_where_nothing_is(clock: Clock, gradsift: CommandLine, kfp_host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
    code, output, errors = gradsift("submit", "--host", host)
    assert (code, output) == (2, "")
    assert errors.startswith(f"Error: Kubeflow Pipelines at {host} cannot be reached (")
    assert errors.endswith("Connection refused): expected the address in --host.\n")
    assert 5 < clock.slept < 15


@pytest.mark.parametrize("content", [b"<html>Log in</html>", b'"healthy"'])
def test_an_address_where_something_else_is(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr("doubles.kfp_api_server.json.dumps", lambda answer: content.decode())
    code, _, errors = gradsift("submit")
    assert code == 2
    assert errors.startswith(
        f"Error: The address {kfp_host} answers, but not as Kubeflow Pipelines does: expected "
    )


def test_an_address_that_leads_to_a_login_page(kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine) -> None:
    kfp_api.faults = [302]
    code, _, errors = gradsift("submit")
    assert code == 2
    assert errors == (
        f"Error: Kubeflow Pipelines at {kfp_host} asks to log in (302): expected a token in GRADSIFT_KFP_TOKEN.\n"
    )


def test_a_token_comes_from_the_environment(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp_api.token = TOKEN
    code, _, errors = gradsift("submit")
    assert code == 2
    assert errors == (
        f"Error: Kubeflow Pipelines at {kfp_host} refused the token (401), which is missing, wrong or has expired: "
        "expected a fresh one in GRADSIFT_KFP_TOKEN, or in a file that KF_PIPELINES_SA_TOKEN_PATH names.\n"
    )
    monkeypatch.setenv("GRADSIFT_KFP_TOKEN", TOKEN)
    assert gradsift("submit")[::2] == (0, "")


@pytest.mark.parametrize("token", ["two\nlines", "5€", "\udcff"])
def test_a_token_that_no_request_can_carry_is_refused(
    token: str, gradsift: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_bytes(token.encode(errors="surrogateescape"))
    for name, value, where in (
        ("GRADSIFT_KFP_TOKEN", token, "GRADSIFT_KFP_TOKEN"),
        ("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"), f"The file {tmp_path}/token"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            error = f"Error: {where} holds characters that no token has: expected one line of ASCII.\n"
            assert gradsift("submit") == (2, "", error)


def test_many_users_need_a_namespace(kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine) -> None:
    kfp_api.multi_user = True
    assert gradsift("submit") == (
        2,
        "",
        "Error: This Kubeflow has many users: expected your namespace in --namespace.\n",
    )
    for namespace in ("ann", "bob", "ann"):
        assert gradsift("submit", "--namespace", namespace)[0] == 0
    assert [pipeline["namespace"] for pipeline in kfp_api.pipelines.values()] == ["ann", "bob"]
    assert [experiment["namespace"] for experiment in kfp_api.experiments.values()] == ["ann", "bob"]


def test_a_pod_s_namespace_is_its_user_s(
    kfp_api: KfpApi,
    kfp_host: str,
    gradsift: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    kfp_api.multi_user = True
    (tmp_path / "namespace").write_text("ann\n")
    monkeypatch.setattr("gradsift.pipelines.kubeflow.client.NAMESPACE_FILE", tmp_path / "namespace")
    assert gradsift("submit")[0] == 0
    assert [experiment["namespace"] for experiment in kfp_api.experiments.values()] == ["ann"]
