"""What waits through an outage, for how long, and what the log says meanwhile."""

import logging
from types import SimpleNamespace

import pytest
from doubles.fake_clock import Clock

from gradsift.components.shared.errors import GpuMemoryError, InputError, StorageError, StorageOutageError
from gradsift.components.shared.process import outages
from gradsift.components.shared.process.outages import outage_timeout, wait_out, wait_through_outages


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outages, "time", clock)
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=clock.sleep))
    monkeypatch.setattr(outages, "_logged_at", {})
    return clock


class Server:
    """Is down for a while; a request takes five seconds."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.requests = 0

    def ask(self) -> str:
        self.requests += 1
        self.clock.slept += 5
        if self.clock.slept < self.seconds:
            raise StorageOutageError("It is down.")
        return "answer"


def test_an_outage_shorter_than_the_timeout_is_waited_out_and_logged_once_a_minute(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(clock, 600)
    assert wait_out(StorageOutageError, server.ask, 1800) == "answer"
    assert 600 <= clock.slept < 630
    assert server.requests > 20
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert caplog.messages[0] == "It is down. Waiting for 0 of 30 minutes so far."
    assert 8 <= len(caplog.messages) <= 10


def test_a_longer_one_ends_with_its_sentence_and_how_long_it_lasted(clock: Clock) -> None:
    server = Server(clock, 10_000)
    with pytest.raises(StorageOutageError, match=r"^It is down\. This lasted for \d\d minutes\.$"):
        wait_out(StorageOutageError, server.ask, 1800)
    assert 1750 < clock.slept <= 1810


def test_the_time_counts_from_the_first_failure(clock: Clock) -> None:
    def ask() -> str:
        if clock.slept < 5000:
            clock.slept = 5000
            raise StorageOutageError("The connection broke after hours.")
        return "answer"

    assert wait_out(StorageOutageError, ask, 60) == "answer"


@pytest.mark.parametrize("error", [StorageError("Refused."), GpuMemoryError("Full."), KeyError("x")])
def test_nothing_else_is_repeated(clock: Clock, error: Exception) -> None:
    requests = []

    def ask() -> None:
        requests.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        wait_out(StorageOutageError, ask, 1800)
    assert caught.value is error
    assert len(requests) == 1


@pytest.mark.parametrize("seconds", ["soon", "", "nan", "inf", "-1"])
def test_a_time_that_is_none_is_refused(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(outages.VARIABLE, seconds)
    with pytest.raises(InputError, match=f"^{outages.VARIABLE} is '{seconds}': expected a number of seconds"):
        outage_timeout()


def test_only_a_step_waits(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(outages.VARIABLE)
    server = Server(clock, 600)
    with pytest.raises(StorageOutageError, match=r"^It is down\.$"):
        wait_out(StorageOutageError, server.ask)
    assert server.requests == 1
    wait_through_outages()
    assert outage_timeout() == outages.OUTAGE_TIMEOUT_SECONDS
    assert wait_out(StorageOutageError, server.ask) == "answer"
