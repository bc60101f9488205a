"""Ends this process in order when it gets a signal, or when the one it works for is gone."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "GRADSIFT_STOP_WITH"
POLL_SECONDS = 1.0
GRACE_SECONDS = 20.0


def lifeline() -> dict[str, str]:
    """Return the environment variable that ties a child process to this one."""
    return {VARIABLE: str(os.getpid())}


def hold_lifeline() -> None:
    """Watch the process named by the environment, if any, and stop when it has ended."""
    pid = os.environ.get(VARIABLE)
    if pid is not None and int(pid) != os.getpid():
        threading.Thread(target=_watch, args=(int(pid),), daemon=True).start()


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that what is open is closed, what is begun is ended, and the code is 143."""

    def stop(signum: int, _: object) -> None:
        raise SystemExit(128 + signum)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _watch(pid: int) -> None:
    while _is_alive(pid):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
