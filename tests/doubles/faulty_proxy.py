"""A proxy in front of an HTTP server that spoils a share of the exchanges, in ways networks and S3 servers do."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = ("500", "503", "reset before", "reset after", "stall", "truncate")


class FaultyProxy(ThreadingHTTPServer):
    """Forwards requests with all their headers as they are, so that signatures still hold.

    Attributes:
        share: share of the requests that are spoilt, 0 to 1.
        stall_seconds: how long an answer is held back.
        script: what happens to the next requests, before shares count: a fault, a status, "alter" for one bit of
            the answer that is flipped, or None.
        refusals: header -> answer (status, headers, body) to every request with that header.
        refused_queries: what is in the address of requests that are answered 400.
        counts: how often each fault happened, and how many requests came ("all").
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str, share: float, seed: int, stall_seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.share = share
        self.stall_seconds = stall_seconds
        self.script: list[str | None] = []
        self.refusals: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        self.refused_queries: tuple[str, ...] = ()
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def fault(self) -> str | None:
        """Return what happens to the next request: what the script says, then what is drawn."""
        with self._lock:
            if self.script:
                fault = self.script.pop(0)
            else:
                fault = self._random.choice(FAULTS) if self._random.random() < self.share else None
            self.counts.update(["all", fault] if fault else ["all"])
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _exchange(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault()
        refusal = next(
            (self.server.refusals[name] for name in self.server.refusals if name in self.headers), None
        )
        if refusal is not None:
            self._answer(*refusal)
        elif any(query in self.path for query in self.server.refused_queries):
            self._answer(400, [], b"")
        elif fault is not None and fault.isdigit():
            self._answer(int(fault), [], b"")
        elif fault == "reset before":
            self._reset()
        else:
            status, headers, answer = self._forward(body)
            if fault == "stall":
                time.sleep(self.server.stall_seconds)
            if fault == "reset after" or (fault == "truncate" and not answer):
                self._reset()
            else:
                if fault == "alter":
                    answer = answer[:-1] + bytes([answer[-1] ^ 1])
                self._answer(status, headers, answer, cut=fault == "truncate")

    do_GET = do_PUT = do_POST = do_PATCH = do_HEAD = do_DELETE = _exchange  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.getheaders(), content

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length", str(len(content)))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def faulty_proxy(
    upstream: str, share: float = 0.0, seed: int = 0, stall_seconds: float = 1.0
) -> Iterator[FaultyProxy]:
    """Run a proxy in front of `upstream`, an address such as `http://127.0.0.1:9000`, for the time of the block."""
    with FaultyProxy(upstream, share, seed, stall_seconds) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
