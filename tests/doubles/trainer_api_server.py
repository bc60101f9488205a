"""Serves the double of the Kubernetes API over HTTPS, to pods' in-cluster configuration."""

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from doubles.certificates import self_signed
from doubles.trainer_api_double import NAMESPACE, TrainerApi


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: TrainerApi

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.api.answer(self.command, self.path, headers, body)
        if isinstance(answer, dict):
            self._send(status, json.dumps(answer).encode())
        else:
            self._stream(answer)

    def _send(self, status: int, content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, parts: Iterator[bytes]) -> None:
        self.send_response_only(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for part in parts:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the reader has gone, or the connection is to break
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """A server that leaves no connection open when it ends."""

    daemon_threads = True

    def __init__(self, port: int, handler: type[_Handler], tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self._tls = tls
        self._connections: list[socket.socket] = []

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(OSError), self._tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)
            encrypted.shutdown(socket.SHUT_RDWR)  # closing it is not enough, as `_connections` has it too

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(socket.fromfd(request.fileno(), socket.AF_INET, socket.SOCK_STREAM))
        super().process_request(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class Cluster:
    """An API that can go down and come back at the same address, and what a pod in its cluster sees.

    Attributes:
        api: the API's state.
        account: the folder of the pod's service account: `token`, `ca.crt`, `namespace`.
    """

    def __init__(self, api: TrainerApi, folder: Path) -> None:
        self.api = api
        self.account = folder
        self.port = 0
        key, certificate = self_signed()
        (folder / "namespace").write_text(NAMESPACE)
        (folder / "token").write_text("token")
        (folder / "ca.crt").write_bytes(certificate)
        (folder / "server.pem").write_bytes(key + certificate)

    @contextmanager
    def up(self) -> Iterator[None]:
        """Serve the API for the time of the block."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.account / "server.pem")
        with _Server(self.port, type("Handler", (_Handler,), {"api": self.api}), tls) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
            )
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def environment(self, pod: str) -> dict[str, str]:
        """Return the variables that a pod's processes find the API by."""
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.port),
            "KFP_POD_NAME": pod,
            "KFP_RUN_ID": os.environ.get("KFP_RUN_ID", "run-1"),
        }
