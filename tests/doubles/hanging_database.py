"""A database that lets its client in and answers nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def hanging_postgresql() -> Iterator[str]:
    """Give the address of a PostgreSQL server that lets its clients in, is ready for a query, and answers none.

    When the block ends, so do their connections.
    """
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_let_all_in, args=(listener, connections), daemon=True).start()
        try:
            yield f"postgresql+psycopg://ada:s3cret@127.0.0.1:{listener.getsockname()[1]}/mlflow"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                with suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)


def _let_all_in(listener: socket.socket, connections: list[socket.socket]) -> None:
    with suppress(OSError):  # the listener was closed
        while True:
            connection, _ = listener.accept()
            connections.append(connection)
            threading.Thread(target=_let_in, args=(connection,), daemon=True).start()


def _let_in(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while request := connection.recv(4096):
            if request[4:8] == bytes([0, 3, 0, 0]):  # the start of protocol 3.0
                connection.sendall(b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I")
            elif len(request) == 8:  # asks for encryption
                connection.sendall(b"N")
