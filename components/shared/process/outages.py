"""Waits for what is out of reach for now: repeats a call through an outage, and logs what is waited for.

A step waits, and so do its processes: a run that ends for want of a server would lose its place in the queue.
Checks and commands do not wait, as the address may be wrong.
"""

import logging
import math
import os
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from gradsift.components.shared.errors import InputError, OutageError, shown

OUTAGE_TIMEOUT_SECONDS = 1800.0
"""How long a step waits for S3, MLflow, the Kubernetes API, or GPU memory that another process holds."""
VARIABLE = "GRADSIFT_OUTAGE_TIMEOUT_SECONDS"
"""Environment variable with the seconds that this process waits; unset where nothing is waited for."""
MAX_DELAY_SECONDS = 20.0
LOG_SECONDS = 60.0

T = TypeVar("T")

logger = logging.getLogger(__name__)

_logged_at: dict[type, float] = {}


def wait_through_outages() -> None:
    """Make this process, and those that it starts, wait through outages from now on: it is a step."""
    os.environ.setdefault(VARIABLE, str(OUTAGE_TIMEOUT_SECONDS))


def outage_timeout() -> float:
    """Return how many seconds this process waits through an outage: 0 outside of steps.

    Raises:
        InputError: the environment gives no such number.
    """
    text = os.environ.get(VARIABLE, "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(f"{VARIABLE} is {shown(text)}: expected a number of seconds, 0 or more.")
    return seconds


def wait_out(kind: type[OutageError], request: Callable[[], T], timeout: float | None = None) -> T:
    """Return what `request` returns, repeating it while it raises an outage of this kind.

    The first failure is logged, and then at most one per minute.

    Args:
        kind: the class of the error that is waited out.
        request: may be called several times.
        timeout: seconds from the first failure after which it is not repeated; None: `outage_timeout()`.

    Raises:
        OutageError: the outage lasted longer.
    """
    outage = _Outage(outage_timeout() if timeout is None else timeout)
    retrying = Retrying(
        retry=retry_if_exception_type(kind),
        wait=wait_random_exponential(multiplier=0.5, max=MAX_DELAY_SECONDS),
        stop=outage.is_over,
        before_sleep=outage.log,
        reraise=True,
    )
    try:
        return retrying(request)
    except kind as error:
        if outage.seconds < LOG_SECONDS:
            raise
        raise type(error)(f"{error} This lasted for {outage.seconds / 60:.0f} minutes.") from error


class _Outage:
    """One outage, which begins with the first failure.

    Attributes:
        seconds: how long it has lasted.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.seconds = 0.0
        self._began = math.nan

    def is_over(self, state: RetryCallState) -> bool:
        """Say whether the next try would come too late."""
        if math.isnan(self._began):
            self._began = time.monotonic()
        self.seconds = time.monotonic() - self._began
        return self.seconds + state.upcoming_sleep >= self.timeout

    def log(self, state: RetryCallState) -> None:
        """Log the error and how long it has lasted, at most one line per minute and kind of error."""
        assert state.outcome is not None
        error = state.outcome.exception()
        now = time.monotonic()
        if now - _logged_at.get(type(error), -math.inf) >= LOG_SECONDS:
            _logged_at[type(error)] = now
            minutes, limit = self.seconds / 60, self.timeout / 60
            logger.warning("%s Waiting for %.0f of %.0f minutes so far.", error, minutes, limit)
