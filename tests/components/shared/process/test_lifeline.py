"""A process that works for another ends soon after it."""

import subprocess
import sys
import textwrap
import time

import pytest

CHILD = """
    import signal, time
    from gradsift.components.shared.process import lifeline

    {setup}
    lifeline.hold_lifeline()
    print("child", flush=True)
    time.sleep(60)
"""
PARENT = """
    import os, subprocess, sys, time
    from gradsift.components.shared.process.lifeline import lifeline

    subprocess.Popen([sys.executable, "-c", sys.argv[1]], env={**os.environ, **lifeline()})
    time.sleep(60)
"""
CLEANS_UP = """
    def clean_up(*_):
        print("cleaned up", flush=True)
        raise SystemExit

    signal.signal(signal.SIGTERM, clean_up)
"""
DOES_NOT_LISTEN = """
    lifeline.GRACE_SECONDS = 0.5
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


def child(setup: str = "") -> str:
    return textwrap.dedent(CHILD).format(setup=textwrap.dedent(setup))


@pytest.mark.parametrize(("setup", "output"), [("", ""), (CLEANS_UP, "cleaned up\n"), (DOES_NOT_LISTEN, "")])
def test_killing_the_parent_stops_the_child_within_seconds(setup: str, output: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PARENT), child(setup)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "child\n"
        parent.kill()
        parent.wait()
        killed = time.monotonic()
        assert parent.stdout.read() == output  # the pipe ends with the last process that holds it
        assert time.monotonic() - killed < 5


@pytest.mark.parametrize("setup", ["", "import os; os.environ['GRADSIFT_STOP_WITH'] = str(os.getpid())"])
def test_a_process_that_works_for_none_other_goes_on(setup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADSIFT_STOP_WITH", raising=False)
    with subprocess.Popen([sys.executable, "-c", child(setup)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "child\n"
        time.sleep(1.5)
        assert process.poll() is None
        process.kill()
