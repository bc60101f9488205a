"""kfp's internals are still as gradsift uses them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from unittest.mock import Mock

import pytest
from kfp_server_api import ApiException
from urllib3.exceptions import ProtocolError, SSLError

from gradsift.pipelines.kubeflow.kfp_compat import QuietClient, hidden_failure

pytestmark = pytest.mark.filterwarnings("ignore:This client only works")


class HangingUpServer:
    """Accepts connections and closes each at its first bytes; counts them."""

    def __init__(self) -> None:
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                with self._listener.accept()[0] as connection:
                    connection.recv(1)
                    self.connections += 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[HangingUpServer]:
    server = HangingUpServer()
    yield server
    server.close()


def test_a_client_asks_nothing_when_it_is_made_and_each_request_once(server: HangingUpServer) -> None:
    client = QuietClient(f"http://127.0.0.1:{server.port}")
    assert server.connections == 0
    for number, send in enumerate(
        (client.healthzs.healthz_service_get_healthz, client.runs.run_service_list_runs), start=1
    ):
        with pytest.raises(ProtocolError):
            send()
        assert server.connections == number


def test_a_client_says_which_api_and_which_user_interface_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_UI_ENDPOINT", raising=False)
    client = QuietClient("http://api.example.com/", existing_token="secret")
    assert client.configuration.host == "http://api.example.com"
    assert client.ui_address == "http://api.example.com/"
    assert client.configuration.api_key == {"authorization": "secret"}
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://ui.example.com")
    assert QuietClient("http://api.example.com").ui_address == "https://ui.example.com"


def test_the_failure_behind_a_body_that_is_missing_is_found() -> None:
    client = QuietClient("https://api.example.com")
    connection = client.runs.api_client.rest_client.pool_manager.connection_from_url(
        client.configuration.host
    )
    connection.urlopen = Mock(side_effect=SSLError("no certificate"))
    with pytest.raises(AttributeError) as raised:
        client.runs.run_service_list_runs()
    failure = hidden_failure(raised.value)
    assert isinstance(failure, ApiException)
    assert "no certificate" in failure.reason
    assert hidden_failure(AttributeError()) is None
