"""Lets idle OpenMP threads give up their cores soon, because other processes may need them.

By default, a thread of libgomp checks 300,000 times for new work before it sleeps. Where other processes use the
same cores, every computation then waits for threads that do nothing: on a busy machine, two threads trained a model
of MiniLM's size at 0.2 steps per second, and at 3 with 1,000 checks. On a quiet machine both were equally fast.
"""

import os

SPIN_COUNT = "1000"
"""Checks before a thread sleeps. With 0, training on two quiet cores was 15% slower."""


def limit_spinning() -> None:
    """Set GOMP_SPINCOUNT, which libgomp reads when torch is imported, in this process or in one started by it.

    GOMP_SPINCOUNT and OMP_WAIT_POLICY keep the values that the environment gives them.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
