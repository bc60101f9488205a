"""An MLflow server as a platform team runs it: it asks for a password, and PostgreSQL is behind it."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def mlflow_on_postgresql(user: str, password: str, settings: Mapping[str, str]) -> Iterator[str]:
    """Start both servers and yield MLflow's address.

    Args:
        user: name of MLflow's one user.
        password: that user's.
        settings: further variables for MLflow, such as where it keeps artifacts.
    """
    with tempfile.TemporaryDirectory() as folder, _postgresql(Path(folder)) as database:
        port = _free_port()
        program = str(Path(sysconfig.get_path("scripts")) / "mlflow")
        command = [program, "server", "--app-name", "basic-auth", "--workers", "1", "--port", str(port)]
        environment = {
            **os.environ,
            **settings,
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_AUTH_ADMIN_USERNAME": user,
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        log = Path(folder) / "mlflow.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True
            )
        try:
            _wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health"), process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def postgresql_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server's programs, as Debian's package lays them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL server of Debian's package, and yield its database's address."""
    programs, port, password = postgresql_programs(), _free_port(), secrets.token_hex(16)
    folder.chmod(0o755)
    data, password_file, log = folder / "database", folder / "password", folder / "postgresql.log"
    password_file.write_text(password)
    data.mkdir()
    for path in (data, password_file):
        shutil.chown(path, "postgres", "postgres")
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": data}
    make = [f"{programs}/initdb", "--pgdata", data, "--username", "mlflow", "--auth", "scram-sha-256"]
    subprocess.run([*make, "--pwfile", password_file], check=True, stdout=subprocess.DEVNULL, **owner)
    serve = [
        f"{programs}/postgres",
        "-D",
        data,
        "-p",
        str(port),
        "-c",
        "listen_addresses=127.0.0.1",
        "-k",
        data,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(serve, stdout=output, stderr=output, **owner)
    ready = [f"{programs}/pg_isready", "--quiet", "--host", "127.0.0.1", "--port", str(port)]
    try:
        _wait_until(lambda: subprocess.run(ready).returncode == 0, process, log)
        yield f"postgresql+psycopg://mlflow:{password}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()


def _wait_until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError(f"A server did not start: {log.read_text()}")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
