"""A clock for tests of code that waits."""

import time
from collections.abc import Callable


class Clock:
    """Time that passes by sleeping, at once.

    Attributes:
        slept: seconds slept in all.
        on_sleep: called after each sleep.
    """

    def __init__(self) -> None:
        self.slept = 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        time.sleep(0.001)
        self.on_sleep()

    def monotonic(self) -> float:
        return self.slept
